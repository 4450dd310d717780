"""Break everything, then count: `make chaos` (about two minutes; `python -m benchmarks.chaos.__main__ --quick --seed 7`: 25 s).

Two web processes, two runners of the subscriptions, PostgreSQL and Valkey, all of this run alone, are killed, paused,
cut off and restarted by a seeded plan, while writers dispatch commands, people lose their rights, and some thirty
clients keep a log each. Then every log is held against the store:

    exact       for each topic granted at the end: what was received is what the store holds, in its order, each once
    shown       every event as the role may see it, hidden fields left out
    revoked     nothing from after the event that took the right away; the socket was closed for good
    presence    every client that may look sees the same people, and they are those who are there
    durable     every command that was acknowledged is in the log, with its effect once

Exit code 1 on any violation. Needs a POSIX system; restarts keep ports, so clients come back by themselves.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import functools
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))

from benchmarks import harness  # noqa: E402
from benchmarks.chaos.clients import REVOCATIONS, Cast, engage, revoke  # noqa: E402
from benchmarks.chaos.faults import FAULTS  # noqa: E402
from benchmarks.chaos.oracle import Oracle, presence_wrong  # noqa: E402
from benchmarks.chaos.stack import READY_SECONDS, Stage  # noqa: E402
from benchmarks.chaos.writers import Writer, persistently, stock  # noqa: E402
from realtime import frames  # noqa: E402

CATCH_UP_SECONDS = 45.0
ONLINE_SECONDS = 15.0
PRESENCE_SECONDS = 30.0  # a lease, a moment of grace, and a reconnect


@dataclasses.dataclass
class Plan:
    """How long, how fast, how often."""

    rounds: int
    outage: tuple[float, float]
    rest: tuple[float, float]
    rate: float

    def faults(self, rng: random.Random) -> list[str]:
        """Every fault once a round, in an order of the seed; what needs a process to start again comes early, so that
        presence has its lease's time to settle."""
        order = []
        for _ in range(self.rounds):
            names = list(FAULTS)
            rng.shuffle(names)
            order += sorted(names, key=lambda name: name != "web killed") if self.rounds == 1 else names
        return order


QUICK = Plan(rounds=1, outage=(0.3, 0.9), rest=(0.3, 0.8), rate=25.0)
FULL = Plan(rounds=2, outage=(1.0, 4.0), rest=(0.5, 2.5), rate=30.0)


async def until(met: Callable[[], bool], seconds: float) -> float:
    """Look again and again; the seconds it took, or `inf`."""
    started = time.monotonic()
    while not met():
        if time.monotonic() - started > seconds:
            return float("inf")
        await asyncio.sleep(0.25)
    return time.monotonic() - started


async def play(seed: int, plan: Plan, folder: Path) -> dict[str, Any]:
    """1 stage and cast  2 everybody live  3 faults and revocations under load  4 the dust settles  5 judgement."""
    rng = random.Random(seed)
    stage = Stage(folder)
    try:
        await stage.open()
        users, made = await stage.do(in_thread, functools.partial(stock, rng))
        cast = await stage.do(in_thread, functools.partial(engage, stage, rng, users))
        start = await stage.do(in_thread, stamp)
        async with watching(cast, start):
            await until(lambda: all(len(one.people) >= 1 for one in cast.witnesses), READY_SECONDS)
            writers = [Writer(rng.randrange(2**32), plan.rate, users, made) for _ in range(2)]
            for writer in writers:
                writer.start()
            story = await break_things(stage, cast, plan, rng)
            for writer in writers:
                await asyncio.to_thread(writer.end)
            results = [result for writer in writers for result in writer.acknowledged]
            return await judged(stage, cast, start, story, results)
    finally:
        await stage.close()


def stamp() -> frames.Since:
    from events import head

    return frames.Since(head.epoch(), head.safe())


@contextlib.asynccontextmanager
async def watching(cast: Cast, start: frames.Since) -> AsyncIterator[None]:
    watches = [asyncio.create_task(witness.watch(start)) for witness in cast.witnesses]
    assert cast.mute is not None
    await cast.mute.connect(start)
    try:
        yield
    finally:
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)


async def break_things(stage: Stage, cast: Cast, plan: Plan, rng: random.Random) -> list[dict[str, Any]]:
    story: list[dict[str, Any]] = []
    began = time.monotonic()
    names = plan.faults(rng)
    due = dict(zip(sorted(rng.sample(range(len(names)), len(REVOCATIONS))), REVOCATIONS, strict=True))
    revoking: list[asyncio.Task[None]] = []
    for index, name in enumerate(names):
        if index in due:
            revoking.append(asyncio.create_task(take_away(cast, due[index])))
        line = {"at": round(time.monotonic() - began, 1), "fault": name, "revoked meanwhile": due.get(index, "")}
        started = time.time()
        await FAULTS[name](stage, cast, rng, rng.uniform(*plan.outage))
        await asyncio.sleep(rng.uniform(*plan.rest))
        story.append(line | {"from": started, "to": time.time()})
    await asyncio.gather(*revoking)
    return story


async def take_away(cast: Cast, what: str) -> None:
    """From somebody who is live, if that may be: only then is there a socket to close."""
    tabs = cast.victims[what]
    await until(lambda: any(tab.state == "live" for tab in tabs), ONLINE_SECONDS)
    tabs[0].person.revoked = True
    for tab in tabs:
        tab.connected_when_revoked = tab.state == "live"
    await asyncio.to_thread(in_thread, functools.partial(revoke, what, tabs))


def in_thread(work: Callable[[], Any]) -> Any:
    """However often the database goes away meanwhile; the thread's own connection is given back."""
    from django.db import connection

    try:
        return persistently(work)
    finally:
        connection.close()


async def judged(
    stage: Stage, cast: Cast, start: frames.Since, story: list[dict[str, Any]], results: list[Any]
) -> dict[str, Any]:
    for witness in cast.witnesses:  # the slow hurry now, the silent speaks
        witness.dawdle = 0.0
        if not witness._acknowledge:
            witness._acknowledge = True
            witness.drop()
    oracle = await stage.do(in_thread, lambda: Oracle(start.position))
    settled = await until(lambda: all(oracle.caught_up(one) for one in cast.live), CATCH_UP_SECONDS)
    converged = await until(lambda: not presence_wrong(cast), PRESENCE_SECONDS)
    await until(lambda: all(one.ended for one in cast.witnesses if oracle.closed(one)), 10.0)
    assert cast.mute is not None
    waiting = await cast.mute.end(15.0)
    wrong = [fault for witness in cast.witnesses for fault in oracle.judge(witness)]
    wrong += [f"presence: {line}" for line in presence_wrong(cast)] + oracle.durable(results)
    if cast.mute.code is None:
        wrong.append("the client that never reads is still connected")
    if (await stage.do(in_thread, stamp)).epoch != start.epoch:
        wrong.append("the epoch changed")
    if wrong:
        wrong += [f"{name}.log: {stage.log_of(name)}" for name in stage.processes]
    return figures_of(oracle, cast, story, results) | {
        "caught_up_after_s": settled,
        "presence_after_s": converged,
        "mute_frames_waiting": waiting,
        "violations": wrong,
    }


def figures_of(oracle: Oracle, cast: Cast, story: list[dict[str, Any]], results: list[Any]) -> dict[str, Any]:
    """What the story amounted to; lags are those of clients that read."""
    recorded = {event.position: event.recorded_at.timestamp() for event in oracle.events}
    readers = [one for one in cast.witnesses if one.name not in {w.name for w in cast.witnesses[:4]}]
    arrivals = sorted(
        (recorded[seen.position], seen.at - recorded[seen.position])
        for one in readers
        for seen in one.seen
        if seen.position in recorded
    )
    lags = sorted(lag for _, lag in arrivals)
    for line in story:
        during = [lag for at, lag in arrivals if line["from"] <= at < line["to"]]
        line["longest lag s"] = round(max(during, default=0.0), 2)
        line["lasted s"] = round(line.pop("to") - line.pop("from"), 1)
    closings = [
        one.ended_at - oracle.taken[one.person.id].recorded_at.timestamp()
        for one in cast.witnesses
        if one.ended and one.connected_when_revoked
    ]
    return {
        "story": story,
        "clients": len(cast.witnesses) + 1,
        "commands": len(results),
        "events": len(oracle.events),
        "received": sum(len(one.seen) for one in cast.witnesses),
        "connections": sum(one.connected for one in cast.witnesses),
        "resets": sum(reason == "too_old" for one in cast.witnesses for reason in one.resets),
        "lag_p50_ms": round(1000 * lags[len(lags) // 2], 1) if lags else None,
        "lag_p99_ms": round(1000 * lags[int(len(lags) * 0.99)], 1) if lags else None,
        "sockets_live_when_revoked": sum(one.connected_when_revoked for one in cast.witnesses),
        "closed_for_good": len(closings),
        "slowest_revocation_s": round(max(closings, default=0.0), 2),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="every fault once, briefly (about 25 s)")
    parser.add_argument("--seed", type=int, help="the plan to play; random when not given, and printed")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    started = time.monotonic()
    print(f"chaos with seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="formease-chaos-") as name:
        Path(name).chmod(0o711)
        result = asyncio.run(play(seed, QUICK if options.quick else FULL, Path(name)))
    result = {"seed": seed, "seconds": round(time.monotonic() - started, 1)} | result
    harness.table("what was broken", result["story"])
    harness.table(
        "what came of it",
        [{"figure": name, "value": value} for name, value in result.items() if not isinstance(value, list)],
    )
    for line in result["violations"]:
        print(f"VIOLATION {line}")
    harness.save("chaos", result)
    print(f"\n{len(result['violations'])} violations")
    return 1 if result["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
