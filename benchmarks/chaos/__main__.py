"""Runs the chaos test: `make chaos` takes two minutes, `python -m benchmarks.chaos --quick --seed 7` 25 seconds.

Two web processes, two runners of the subscriptions, a sampler, PostgreSQL and Valkey are started for this run. They are
killed, paused, disconnected and restarted by a seeded plan, while writers dispatch commands, people lose their rights,
and some thirty clients keep a log each. Then every log is compared with the store:

    exact       for each topic granted at the end: the received events are the stored ones, in order, each once
    shown       every event as the role may see it, without hidden fields
    revoked     no event at or after the one that removed the right; the socket was closed for good
    presence    every client that may see it sees the same people, and exactly those who are present
    durable     every acknowledged command is in the log, with its effect once
    alerts      each was raised, notified and resolved once; every message arrived, under one id (see `alerts.py`)
    counted     the counters have followed, and `reconcile_counters --all` finds no difference to the read tables

`--from COMMIT` rolls instead: the processes of that commit run on the migrated schema and are replaced one at a time,
two workers too. Exports, rebuilds and checks of the log that are requested meanwhile are finished once (`jobs.py`).

Exit code 1 on any violation. Needs a POSIX system; restarts keep ports, so clients reconnect by themselves.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import functools
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))

from benchmarks import harness  # noqa: E402
from benchmarks.chaos.alerts import Alerts  # noqa: E402
from benchmarks.chaos.clients import REVOCATIONS, ClientSet, create_clients, revoke  # noqa: E402
from benchmarks.chaos.faults import FAULTS, ROLL  # noqa: E402
from benchmarks.chaos.jobs import Jobs  # noqa: E402
from benchmarks.chaos.oracle import Oracle, counter_errors, presence_errors  # noqa: E402
from benchmarks.chaos.stack import READY_SECONDS, Stack  # noqa: E402
from benchmarks.chaos.writers import Writer, create_records, retry_until_answered  # noqa: E402
from realtime import frames  # noqa: E402

CATCH_UP_SECONDS = 45.0
ONLINE_SECONDS = 15.0
PRESENCE_SECONDS = 30.0  # a lease, the grace period, and a reconnect


@dataclasses.dataclass
class Plan:
    """The size of a run: rounds of faults, seconds of an outage and the pause after it, commands a second."""

    rounds: int
    outage: tuple[float, float]
    rest: tuple[float, float]
    rate: float

    def faults(self, rng: random.Random) -> list[str]:
        """All faults, each once a round, in a seeded order.

        In a single round the killed web process comes first, so that its presence lease ends before the comparison.
        """
        order = []
        for _ in range(self.rounds):
            names = list(FAULTS)
            rng.shuffle(names)
            order += sorted(names, key=lambda name: name != "web killed") if self.rounds == 1 else names
        return order


@dataclasses.dataclass
class Roll(Plan):
    """A deploy: every process is replaced once, in the order of `ROLL`."""

    def faults(self, rng: random.Random) -> list[str]:
        return list(ROLL)


ROLLING = Roll(rounds=1, outage=(0.0, 0.0), rest=(3.0, 4.0), rate=25.0)
QUICK = Plan(rounds=1, outage=(0.3, 0.9), rest=(0.3, 0.8), rate=25.0)
FULL = Plan(rounds=2, outage=(1.0, 3.5), rest=(0.5, 2.0), rate=30.0)


async def until(met: Callable[[], bool], seconds: float) -> float:
    """Poll a condition; returns the seconds it took, or `inf` after the timeout."""
    started = time.monotonic()
    while not met():
        if time.monotonic() - started > seconds:
            return float("inf")
        await asyncio.sleep(0.25)
    return time.monotonic() - started


async def run_test(seed: int, plan: Plan, folder: Path, previous: Path | None = None) -> dict[str, Any]:
    """Run the test: 1 start stack and clients  2 connect  3 faults and revocations under load  4 settle  5 compare."""
    rng = random.Random(seed)
    stack = Stack(folder, previous)
    try:
        await stack.open()
        stack.alerts = Alerts(lambda work: stack.do(in_thread, work), stack.postgres.url(), seed)
        await stack.alerts.create()
        users, made = await stack.do(in_thread, functools.partial(create_records, rng))
        clients = await stack.do(in_thread, functools.partial(create_clients, stack, rng, users))
        start = await stack.do(in_thread, stamp)
        async with watching(clients, start):
            await until(lambda: all(len(one.people) >= 1 for one in clients.watchers), READY_SECONDS)
            writers = [Writer(rng.randrange(2**32), plan.rate, users, made) for _ in range(2)]
            for writer in writers:
                writer.start()
            idle = asyncio.create_task(stack.alerts.leave_transaction_open())
            jobs = Jobs(lambda work: stack.do(in_thread, work), users)
            requesting = asyncio.create_task(jobs.run()) if previous is not None else None
            timeline = await inject_faults(stack, clients, plan, rng)
            await idle
            unfinished = await finish_jobs(jobs, requesting)
            for writer in writers:
                await asyncio.to_thread(writer.end)
            results = [result for writer in writers for result in writer.acknowledged]
            result = await evaluate(stack, clients, start, timeline, results)
            return result | {"jobs": jobs.requests, "violations": result["violations"] + unfinished}
    finally:
        await stack.close()
        if hasattr(stack, "alerts"):
            stack.alerts.close()


async def finish_jobs(jobs: Jobs, requesting: asyncio.Task[None] | None) -> list[str]:
    """Request no more jobs; returns what is wrong with those that were requested."""
    if requesting is None:
        return []
    requesting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await requesting
    return await jobs.check()


def stamp() -> frames.Since:
    from events import head

    return frames.Since(head.epoch(), head.safe())


@contextlib.asynccontextmanager
async def watching(clients: ClientSet, start: frames.Since) -> AsyncIterator[None]:
    watches = [asyncio.create_task(watcher.watch(start)) for watcher in clients.watchers]
    assert clients.non_reader is not None
    await clients.non_reader.connect(start)
    try:
        yield
    finally:
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)


async def inject_faults(stack: Stack, clients: ClientSet, plan: Plan, rng: random.Random) -> list[dict[str, Any]]:
    timeline: list[dict[str, Any]] = []
    began = time.monotonic()
    names = plan.faults(rng)
    revocations = () if isinstance(plan, Roll) else REVOCATIONS
    due = dict(zip(sorted(rng.sample(range(len(names)), len(revocations))), revocations, strict=True))
    revoking: list[asyncio.Task[None]] = []
    for index, name in enumerate(names):
        if index in due:
            revoking.append(asyncio.create_task(revoke_rights(clients, due[index])))
        fault = {"at": round(time.monotonic() - began, 1), "fault": name, "revoked meanwhile": due.get(index, "")}
        started = time.time()
        await (FAULTS | ROLL)[name](stack, clients, rng, rng.uniform(*plan.outage))
        await asyncio.sleep(rng.uniform(*plan.rest))
        timeline.append(fault | {"from": started, "to": time.time()})
    await asyncio.gather(*revoking)
    return timeline


async def revoke_rights(clients: ClientSet, what: str) -> None:
    """Revoke rights, if possible those of a client that is connected: only then there is a socket to close."""
    tabs = clients.to_revoke[what]
    await until(lambda: any(tab.state == "live" for tab in tabs), ONLINE_SECONDS)
    tabs[0].person.revoked = True
    for tab in tabs:
        tab.connected_when_revoked = tab.state == "live"
    await asyncio.to_thread(in_thread, functools.partial(revoke, what, tabs))


def in_thread(work: Callable[[], Any]) -> Any:
    """Run database work in this thread, retried until the database answers, and close the thread's connection."""
    from django.db import connection

    try:
        return retry_until_answered(work)
    finally:
        connection.close()


async def evaluate(
    stack: Stack, clients: ClientSet, start: frames.Since, timeline: list[dict[str, Any]], results: list[Any]
) -> dict[str, Any]:
    for watcher in clients.watchers:  # slow clients stop waiting, the silent one acknowledges
        watcher.delay = 0.0
        if not watcher._acknowledge:
            watcher._acknowledge = True
            watcher.drop()
    resolved = asyncio.create_task(stack.alerts.settle())
    oracle = await stack.do(in_thread, lambda: Oracle(start.position))
    settled = await until(lambda: all(oracle.caught_up(one) for one in clients.live), CATCH_UP_SECONDS)
    converged = await until(lambda: not presence_errors(clients), PRESENCE_SECONDS)
    await until(lambda: all(one.ended for one in clients.watchers if oracle.closed(one)), 10.0)
    assert clients.non_reader is not None
    waiting = await clients.non_reader.end(15.0)
    wrong = [fault for watcher in clients.watchers for fault in oracle.check(watcher)]
    wrong += [f"presence: {error}" for error in presence_errors(clients)] + oracle.durable(results)
    wrong += await stack.do(in_thread, functools.partial(counter_errors, CATCH_UP_SECONDS))
    alerts_settled = await resolved
    wrong += await stack.alerts.check()
    if clients.non_reader.code is None:
        wrong.append("the client that never reads is still connected")
    if (await stack.do(in_thread, stamp)).epoch != start.epoch:
        wrong.append("the epoch changed")
    if wrong:
        wrong += [f"{name}.log: {stack.log_of(name)}" for name in stack.processes]
    arrived = stack.alerts.receiver.arrived
    return metrics_of(oracle, clients, timeline, results) | {
        "messages_arrived": len({one.id for one in arrived if one.accepted}),
        "messages_refused_or_cut_off": sum(not one.accepted for one in arrived),
        "caught_up_after_s": settled,
        "alerts_settled_after_s": alerts_settled,
        "presence_after_s": converged,
        "non_reader_frames_waiting": waiting,
        "violations": wrong,
    }


def metrics_of(
    oracle: Oracle, clients: ClientSet, timeline: list[dict[str, Any]], results: list[Any]
) -> dict[str, Any]:
    """The metrics of the run; lags are those of clients that read at full speed."""
    recorded = {event.position: event.recorded_at.timestamp() for event in oracle.events}
    readers = [one for one in clients.watchers if one.name not in {w.name for w in clients.watchers[:4]}]
    arrivals = sorted(
        (recorded[seen.position], seen.at - recorded[seen.position])
        for one in readers
        for seen in one.seen
        if seen.position in recorded
    )
    lags = sorted(lag for _, lag in arrivals)
    for fault in timeline:
        during = [lag for at, lag in arrivals if fault["from"] <= at < fault["to"]]
        fault["longest lag s"] = round(max(during, default=0.0), 2)
        fault["lasted s"] = round(fault.pop("to") - fault.pop("from"), 1)
    closings = [
        one.ended_at - oracle.taken[one.person.id].recorded_at.timestamp()
        for one in clients.watchers
        if one.ended and one.connected_when_revoked
    ]
    return {
        "timeline": timeline,
        "clients": len(clients.watchers) + 1,
        "commands": len(results),
        "events": len(oracle.events),
        "received": sum(len(one.seen) for one in clients.watchers),
        "connections": sum(one.connected for one in clients.watchers),
        "resets": sum(reason == "too_old" for one in clients.watchers for reason in one.resets),
        "lag_p50_ms": round(1000 * lags[len(lags) // 2], 1) if lags else None,
        "lag_p99_ms": round(1000 * lags[int(len(lags) * 0.99)], 1) if lags else None,
        "sockets_live_when_revoked": sum(one.connected_when_revoked for one in clients.watchers),
        "closed_for_good": len(closings),
        "slowest_revocation_s": round(max(closings, default=0.0), 2),
    }


def checked_out(commit: str, to: Path) -> Path:
    """The code of a commit, in a folder of its own."""
    to.mkdir()
    packed = subprocess.run(["git", "archive", commit], cwd=PROJECT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(to)], input=packed, check=True)
    return to


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="every fault once, briefly (about 25 s)")
    parser.add_argument("--seed", type=int, help="seed of the plan; random when not given, and printed")
    parser.add_argument("--from", dest="previous", metavar="COMMIT", help="roll from the release of this commit")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    started = time.monotonic()
    print(f"chaos with seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="formease-chaos-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        previous = checked_out(options.previous, folder / "previous") if options.previous else None
        plan = ROLLING if previous else QUICK if options.quick else FULL
        result = asyncio.run(run_test(seed, plan, folder, previous))
    result = {"seed": seed, "seconds": round(time.monotonic() - started, 1)} | result
    harness.table("Faults", result["timeline"])
    harness.table(
        "Results",
        [{"metric": name, "value": value} for name, value in result.items() if not isinstance(value, list)],
    )
    for violation in result["violations"]:
        print(f"VIOLATION {violation}")
    harness.save("chaos", result)
    print(f"\n{len(result['violations'])} violations")
    return 1 if result["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
