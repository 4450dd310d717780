"""Delivery rate, latency and CPU cost: `make load` (about five minutes; `python -m benchmarks.load --quick`).

The server runs as a process of its own on the first core, the clients here on the second; everything on 127.0.0.1, on
temporary services. Each part also measures a reference: only ratios within one run are meaningful. Where the clients'
core is the bottleneck, the rates of fast servers converge, but the CPU time of the server's core does not.

1  fan-out      400-byte events to 200, 1,000 and 2,000 sockets, 4 in flight: our hub (topics, `previous` and credit
                on), bare `websockets.broadcast`, and the stock Channels consumer on both Redis layers; with `--only
                bare hub hub-uvicorn hub-granian hub-daphne` our hub under other servers
2  latency      commit -> frame in the client: 1,000 sockets x 20 events/s through store, relay and Valkey; beside it
                a bare broadcast at the same pace
3  handshakes   signed in by session cookie, per second, after the first fifty; and what bare sockets do
4  storm        all clients lose their connection, miss 100 events and resume
5  revocation   event appended -> socket closed
6  reads        lists, records and figures over HTTP by 8 connections, while two writers dispatch 100 commands a second;
                beside it the same without writers
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any, Final

import uvloop

from benchmarks import harness
from benchmarks.load import clients, reads, scenarios, servers

KINDS: Final = ("bare", "hub", "channels-core", "channels-pubsub")
SIZES: Final = (200, 1000, 2000)

OF_BARE: Final = "commit to frame p50, of bare"

# Result of the whole path -> its goal, and whether less is better. The goals of 10 ms and 20 µs of CPU apply to a
# machine on which a bare broadcast to 1,000 sockets takes 7 ms and 13 µs; on a slower machine scale them accordingly.
GOALS: Final = {
    "commit to frame p50 ms": (10.0, True),
    OF_BARE: (1.43, True),
    "commit to frame p99 ms": (50.0, True),
    "handshakes/s": (400.0, False),
    "storm: all live again s": (5.0, True),
    "storm: events lost": (0.0, True),
    "revoked to closed p99 ms": (1000.0, True),
}


async def measure(
    kinds: Sequence[str], sizes: Sequence[int], path: int | None, seconds: float, session: str, origin: str
) -> dict[str, Any]:
    if len(clients.CORES) > 1:
        os.sched_setaffinity(0, {clients.CORES[1]})
    rows = [await scenarios.fan_out(kind, size, seconds) for size in sizes for kind in kinds]
    results: dict[str, Any] = {"fan_out": rows, "path": {}, "reads": {}, "goals": []}
    if rows:
        compare(rows)
        harness.table("Fan-out: 400-byte events to every socket", rows)
    if path:
        results["reads"] = await reads.measure(session, 2 * seconds)  # before the session is revoked
        harness.table("Reads over HTTP while writers run", results["reads"]["rows"])
        for wrong in results["reads"]["wrong"][:10]:
            print(f"WRONG {wrong}")
        results["path"] = await scenarios.whole_path(session, path, origin)
        figures = [{"metric": name, "value": value} for name, value in results["path"].items()]
        harness.table("The whole path: store, relay, Valkey, sockets", figures)
    results["goals"] = fan_out_goals(rows) + path_goals(results["path"]) + read_goals(results["reads"])
    if results["goals"]:
        harness.table(f"Goals (whole path: {path} sockets)", results["goals"])
    return results


def compare(rows: list[dict[str, Any]]) -> None:
    """Add to each row its rate and CPU cost relative to the bare broadcast with as many sockets."""
    bare = {row["sockets"]: row for row in rows if row["server"] == "bare"}
    for row in rows:
        if reference := bare.get(row["sockets"]):
            row["of bare"] = round(row["deliveries/s"] / reference["deliveries/s"], 2)
            row["CPU of bare"] = round(row["CPU µs"] / reference["CPU µs"], 2)


def fan_out_goals(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    ours = {row["sockets"]: row for row in rows if row["server"] == "hub"}
    found = []
    if row := ours.get(1000):
        if "of bare" in row:
            found.append(goal("1,000 sockets: rate of bare", row["of bare"], 0.75, less=False))
            found.append(goal("1,000 sockets: CPU of bare", row["CPU of bare"], 1.54, less=True))
        found.append(goal("1,000 sockets: CPU µs a delivery", row["CPU µs"], 20.0, less=True))
        found.append(goal("1,000 sockets: KiB a socket", row["KiB/socket"], 48.0, less=True))
    if 1000 in ours and 2000 in ours:
        ratio = round(ours[2000]["deliveries/s"] / ours[1000]["deliveries/s"], 2)
        found.append(goal("2,000 sockets: rate of 1,000", ratio, 0.85, less=False))
    return found


def path_goals(figures: dict[str, Any]) -> list[dict[str, Any]]:
    if "bare: commit to frame p50 ms" in figures:
        names = ("commit to frame p50 ms", "bare: commit to frame p50 ms")
        figures = figures | {OF_BARE: round(figures[names[0]] / figures[names[1]], 2)}
    return [goal(name, figures[name], *GOALS[name]) for name in GOALS if name in figures]


def read_goals(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [goal("reads refused or wrong", len(found["wrong"]), 0, less=True)] if found else []


def goal(metric: str, value: float, wanted: float, less: bool) -> dict[str, Any]:
    met = value <= wanted if less else value >= wanted
    return {
        "metric": metric,
        "value": value,
        "goal": f"{'<=' if less else '>='} {wanted:g}",
        "met": "yes" if met else "NO",
    }


def sign_in() -> tuple[str, str]:
    """Create a session of an administrator; returns its key and an allowed origin."""
    from django.conf import settings
    from django.contrib.sessions.backends.db import SessionStore

    from backoffice.models import Staff

    staff = Staff.objects.create_user(username="load", role="admin", is_staff=True, is_superuser=True)
    session = SessionStore()
    session["_auth_user_id"] = str(staff.pk)
    session["_auth_user_backend"] = settings.AUTHENTICATION_BACKENDS[0]
    session["_auth_user_hash"] = staff.get_session_auth_hash()
    session.create()
    return session.session_key or "", settings.ALLOWED_ORIGINS[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer sockets, shorter runs")
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SIZES), help="sockets of the fan-out")
    parser.add_argument("--path", type=int, default=1000, help="sockets of the other parts; 0 leaves them out")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--only", nargs="*", choices=[*KINDS, *clients.SERVERS], default=list(KINDS))
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--control", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        uvloop.run(servers.serve(options.serve, options.port, options.control))
        return 0
    sizes, path, seconds = ([100, 200], 200, 1.0) if options.quick else (options.sizes, options.path, options.seconds)
    os.environ |= {"LOG_LEVEL": "WARNING", "DEBUG": "1"}
    with harness.services():
        results = uvloop.run(measure(options.only, sizes, path, seconds, *sign_in()))
    harness.save("load", results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
