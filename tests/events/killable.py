"""Writers and subscription runners that tests kill, forked by one process with all imports done."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import psycopg
from django.db import DatabaseError, connection, transaction

from backoffice.sections.users.domain import UserUpdated
from devtools import launcher, processes
from events import errors, store
from events.subscriptions import checkpoints
from events.subscriptions import runner as subscriptions
from events.subscriptions.runner import Subscription
from events.types import RecordedEvent, new_id
from tests.live import PROJECT

SERVE = "import django; django.setup(); from tests.events import killable; killable.serve()"

AWAY = (errors.StoreUnavailable, psycopg.OperationalError, DatabaseError)

EFFECTS = "create table effects (n bigint generated always as identity, position bigint, stream text, version bigint)"


class Forker:
    """A process that forks writers and runners; they end with this process."""

    def __init__(self, url: str) -> None:
        self._process = subprocess.Popen(
            processes.child_command([sys.executable, "-c", SERVE]),
            cwd=PROJECT,
            env=os.environ | {"DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "backoffice.settings"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def fork(self, kind: str, argument: object) -> int:
        """Fork one process; returns its id."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{kind} {argument}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        with self._process as process:
            process.kill()


def serve() -> None:
    """Run the forker: each input line is a request. It has no thread and no connection that a child could break."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    me = os.getpid()
    for line in sys.stdin:
        kind, argument = line.split()
        if (pid := os.fork()) == 0:
            launcher.die_with(me, signal.SIGKILL)
            {"writer": write, "runner": run, "registered": run_registered}[kind](argument)
        print(pid, flush=True)


def write(path: str) -> None:
    """Append to a few streams until killed; write the id of each acknowledged event to the file."""
    dice, mine = random.Random(path), [f"user-{new_id()}" for _ in range(4)]
    acknowledged = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    while True:
        name, ids = dice.choice(mine), [new_id() for _ in range(dice.choice([1, 1, 3]))]
        if dice.random() < 0.25:
            persist(lambda name=name: roll_back(name))
        persist(lambda name=name, ids=ids: store.append(name, [UserUpdated(first_name="A")] * len(ids), event_ids=ids))
        os.write(acknowledged, "".join(f"{event_id}\n" for event_id in ids).encode())


def roll_back(name: str) -> None:
    with transaction.atomic():
        store.append(name, [UserUpdated(first_name="nobody")])
        transaction.set_rollback(True)


def persist(work: object) -> None:
    """Repeat `work` until it succeeds. A duplicate event id means that it succeeded before the connection broke."""
    while True:
        try:
            work()  # type: ignore[operator]
            return
        except errors.DuplicateEvent:
            return
        except AWAY:
            connection.close()
            time.sleep(0.01)


def run(name: str) -> None:
    """Run a subscription that writes a row for each event."""

    def handle(events: Sequence[RecordedEvent]) -> None:
        rows = [(event.position, event.stream, event.version) for event in events]
        with connection.cursor() as cursor:
            cursor.executemany("insert into effects (position, stream, version) values (%s, %s, %s)", rows)

    subscriptions.RETRY_SECONDS = (0.05,)  # type: ignore[misc]
    wanted = Subscription(name=name, handle=handle, batch=20, poll=0.05)
    subscriptions.run(wanted, threading.Event(), lease_seconds=0.5)


def run_registered(name: str) -> None:
    """Run a subscription of the product."""
    subscriptions.RETRY_SECONDS = (0.05,)  # type: ignore[misc]
    subscriptions.run(checkpoints.find(name), threading.Event(), lease_seconds=0.5)


def lines(folder: Path) -> list[str]:
    """The ids of all acknowledged events."""
    return [line for path in folder.glob("writer-*") for line in path.read_text().split("\n")[:-1]]
