"""Subscriptions that write rows into a table, run in this process or in one that a test can kill."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from urllib.parse import urlsplit

from django.db import connection

from backoffice.sections.users.domain import UserUpdated
from devtools import processes
from events import head, store
from events.subscriptions import runner as subscriptions
from events.subscriptions.runner import Subscription
from events.types import RecordedEvent, new_id
from tests.live import PROJECT


@contextlib.contextmanager
def effects() -> Iterator[str]:
    """A table that handlers write; `n` gives the order of their effects."""
    with connection.cursor() as cursor:
        cursor.execute(
            "create table effects (n bigint generated always as identity, position bigint, stream text, who text)"
        )
    yield "effects"
    with connection.cursor() as cursor:
        cursor.execute("drop table effects")


def grow(count: int = 1, streams: Sequence[str] = ()) -> int:
    """Append events, to the streams in turn or each to a new stream; returns the last position."""
    names = [streams[number % len(streams)] if streams else f"user-{new_id()}" for number in range(count)]
    return [store.append(name, [UserUpdated(first_name="Ada")]).position for name in names][-1]


def write(events: Sequence[RecordedEvent], who: str = "a") -> None:
    rows = [(event.position, event.stream, who) for event in events]
    with connection.cursor() as cursor:
        cursor.executemany("insert into effects (position, stream, who) values (%s, %s, %s)", rows)


def writes(who: str = "a") -> Callable[[Sequence[RecordedEvent]], None]:
    return lambda events: write(events, who)


def fails_on(bad: Callable[[RecordedEvent], bool], who: str = "a") -> Callable[[Sequence[RecordedEvent]], None]:
    """Returns a handler that writes its effects and then fails when one of the events matches `bad`."""

    def handle(events: Sequence[RecordedEvent]) -> None:
        write(events, who)
        for event in events:
            if bad(event):
                raise ValueError(f"cannot handle {event.position}")

    return handle


def subscription(**fields) -> Subscription:
    """A subscription that starts at the current head."""
    return Subscription(
        **{"name": f"test-{new_id()}", "handle": writes(), "start": head.safe(), "poll": 0.05, **fields}
    )


def catch_up(wanted: Subscription, owner: str = "a", partition: int = 0) -> subscriptions.Lease:
    lease = subscriptions.acquire(wanted, owner, partition=partition)
    assert lease is not None
    while subscriptions.step(wanted, owner, lease):
        pass
    return lease


def effect(who: str | None = None) -> list[int]:
    """The positions of all effects; a position occurs as often as its effect did."""
    return [
        row[0]
        for row in store.query("select position from effects where %s::text is null or who = %s order by 1", (who, who))
    ]


def stored(after: int, upto: int | None = None) -> list[int]:
    rows = store.query("select position from events_event where position > %s order by 1", (after,))
    return [row[0] for row in rows if upto is None or row[0] <= upto]


def out_of_order() -> list[str]:
    """Streams in which a later event had its effect before an earlier one."""
    return [
        row[0]
        for row in store.query(
            """select distinct stream from (
                 select stream, position < lag(position) over (partition by who, stream order by n) as late from effects
               ) seen where late"""
        )
    ]


# -- a separate process --------------------------------------------------------------------------------------------

RUN = """
import sys, django
django.setup()
from django.core.management import call_command
from tests.events import effects
effects.register_printing(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
call_command("run_subscriptions", sys.argv[1], "--lease", "0.5")
"""


def register_printing(name: str, start: int, partitions: int) -> None:
    """Register a subscription that prints its position between effect and commit, so that a test can kill it there."""

    def handle(events: Sequence[RecordedEvent]) -> None:
        write(events, name)
        print(events[-1].position, flush=True)

    subscriptions.register(
        Subscription(name=name, handle=handle, start=start, partitions=partitions, batch=7, poll=0.05)
    )


def database_url() -> str:
    """The database that this test uses, for another process."""
    name = connection.settings_dict["NAME"]
    return urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}").geturl()


def start_process(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        processes.child_command([sys.executable, "-c", code, *map(str, arguments)]),
        cwd=PROJECT,
        env=os.environ | {"DATABASE_URL": database_url(), "DJANGO_SETTINGS_MODULE": "backoffice.settings"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
