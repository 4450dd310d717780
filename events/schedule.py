"""Sends the scheduled tasks to Celery's queue, each turn once, from any number of processes.

Every `run_subscriptions` runs this loop, and so does `celery beat`, which is therefore not needed, and harmless where
it runs once or twice. A turn is a number, `floor(epoch / seconds)` by the database's clock; the process that writes it
into the task's row sends the task, in the same transaction. When the queue cannot be reached, or the process dies
before the commit, the turn is still free and the next process takes it: a task may be sent twice, but none is left out.
All of them may run twice.
"""

from __future__ import annotations

import logging
import threading
from typing import Any, Final

import psycopg
from celery import current_app
from django.conf import settings
from django.db import DatabaseError, connection
from kombu.exceptions import OperationalError

from events import errors, store
from events.db import pipeline
from events.subscriptions import checkpoints

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 1.0
LONGEST_PAUSE: Final = 5.0
AFTER: Final = 0.05  # into a turn, so that the clocks of two statements cannot disagree about it

# Reads only, unless a turn is free. A row with other seconds is of an earlier release. One of a turn to come is of a
# clock that was ahead; the next turn may be another process's, whose statement began a moment later.
CLAIM = """
with wanted as (
    select name, seconds, floor(extract(epoch from clock_timestamp())::float8 / seconds)::bigint as turn
      from unnest(%(names)s::text[], %(seconds)s::float8[]) as entry(name, seconds)
), claimed as (
    insert into events_schedule as kept (name, seconds, turn, sender)
    select name, seconds, turn, %(sender)s from wanted
     where not exists (select from events_schedule s
                        where s.name = wanted.name and s.seconds = wanted.seconds
                          and s.turn between wanted.turn and wanted.turn + 1)
     order by name
    on conflict (name) do update
       set seconds = excluded.seconds, turn = excluded.turn, sender = excluded.sender, sent_at = clock_timestamp()
     where kept.seconds <> excluded.seconds or kept.turn not between excluded.turn and excluded.turn + 1
    returning name
)
select array(select name from claimed), extract(epoch from clock_timestamp())::float8,
       (select sender from events_schedule order by sent_at desc limit 1)
"""


class Sender:
    """Sends what is due. `others` are processes that have sent, too: each was logged once."""

    def __init__(self) -> None:
        self.name = checkpoints.owner_name()
        self.others: set[str] = set()
        self.failed = False  # the last time; logged once

    def tick(self) -> float:
        """Send the tasks whose turn nobody has taken; returns the seconds until the next turn."""
        entries: dict[str, dict[str, Any]] = settings.CELERY_BEAT_SCHEDULE
        if not entries:
            return LONGEST_PAUSE
        seconds = [float(entry["schedule"]) for entry in entries.values()]
        with pipeline.transaction():
            wanted = {"names": list(entries), "seconds": seconds, "sender": self.name}
            claimed, now, sender = store.query(CLAIM, wanted)[0]
            for name in claimed:
                _send(entries[name])
        self._note(claimed, sender)
        return float(min(LONGEST_PAUSE, *(each - now % each for each in seconds)) + AFTER)

    def _note(self, claimed: list[str], sender: str | None) -> None:
        """Log each other sender once: several share the turns, and the last one changes every few seconds."""
        if not claimed and sender is not None and sender not in {self.name, *self.others}:
            log.info("scheduled tasks: %s sends them too, each turn once", sender)
            self.others.add(sender)


def _send(entry: dict[str, Any]) -> None:
    current_app.send_task(entry["task"], retry=False, **entry.get("options", {}))


def tick(sender: Sender) -> float:
    """`Sender.tick`; returns a short pause, and logs why, where the database or the queue cannot be reached."""
    try:
        pause = sender.tick()
    except (errors.EventsError, psycopg.Error, DatabaseError, OperationalError, OSError) as error:
        if not sender.failed:
            log.warning("scheduled tasks are not sent: %s", error)
        sender.failed = True
        return RETRY_SECONDS
    else:
        sender.failed = False
        return pause
    finally:
        connection.close()


def run(stop: threading.Event) -> None:
    """Send the scheduled tasks until `stop` is set; a companion of `run_subscriptions`."""
    sender = Sender()
    while not stop.is_set():
        stop.wait(tick(sender))
