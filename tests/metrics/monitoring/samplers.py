"""Processes that sample, for tests that race or kill them: one process with all imports done forks them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable

from django.db import connection

from devtools import processes
from tests.live import PROJECT, database_url

START = "import django; django.setup(); from tests.metrics.monitoring import samplers; samplers.{call}"


def start(call: str) -> subprocess.Popen[str]:
    """A process that calls a function of this module, on the database of the test."""
    return subprocess.Popen(
        processes.child_command([sys.executable, "-c", START.format(call=call)]),
        cwd=PROJECT,
        env=os.environ
        | {
            "DATABASE_URL": database_url(connection.settings_dict["NAME"]),
            "DJANGO_SETTINGS_MODULE": "backoffice.settings",
        },
        stdout=subprocess.PIPE,
        text=True,
    )


def forked(count: int, work: Callable[[int], None]) -> None:
    """Run `work` in that many processes, and wait for them."""
    children = []
    for number in range(count):
        child = os.fork()
        if not child:
            work(number)
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)


def race(count: int, first: int, slots: int) -> None:
    """Claim slots in several processes at once; prints each slot that one of them got."""
    from metrics.monitoring.history import write

    def claim(number: int) -> None:
        won = [slot for slot in range(first, first + slots) if write.claim(slot)]
        os.write(1, "".join(f"{slot}\n" for slot in won).encode())

    forked(count, claim)


def hang(slot: int) -> None:
    """Claim a slot and hang in a probe; prints a line when it does."""
    from metrics.monitoring import sampling
    from metrics.monitoring.history import tables
    from metrics.monitoring.probes import table

    def hanging(_slot: int) -> dict[tuple[str, str], float | None]:
        print("in the probe", flush=True)
        time.sleep(600)
        return {}

    tables.present_slot = lambda: slot
    table.PROBES.clear()
    table.PROBES["hanging"] = hanging
    sampling.tick()


def without_database() -> None:
    """Tick twice with an unreachable database and once with a reachable one; prints the notices to watchers."""
    from metrics.monitoring import sampling

    usual = dict(connection.settings_dict)
    connection.settings_dict["OPTIONS"].pop("pool")  # it would wait ten seconds for a connection
    sampling.WATCHERS = (lambda answers: print("answers" if answers else "away", flush=True),)
    sampling.STEPS = ()
    connection.settings_dict |= {"HOST": "127.0.0.1", "PORT": "1"}
    assert sampling.tick() is None
    assert sampling.tick() is None
    connection.settings_dict |= {"HOST": usual["HOST"], "PORT": usual["PORT"]}
    assert sampling.tick() is not None
