"""Samples in place of Celery: `run_subscriptions` runs this loop, and the holder of a lease takes over after two slots.

It goes on for as long as nobody else samples, and stops with the first slot that another process has.
"""

from __future__ import annotations

import logging
import threading
from typing import Final

import psycopg
from django.db import DatabaseError, connection

from events import errors, store
from events.subscriptions import checkpoints
from metrics.monitoring import process_reports, sampling
from metrics.monitoring.history import tables, write
from metrics.monitoring.metric_types import SLOT_SECONDS

log = logging.getLogger(__name__)

NAME: Final = "sampling"
LEASE_SECONDS: Final = 12.0

ACQUIRE = """
insert into metrics_lease as lease (name, owner, leased_until)
values (%(name)s, %(owner)s, clock_timestamp() + %(seconds)s * interval '1 second')
on conflict (name) do update set owner = excluded.owner, leased_until = excluded.leased_until
 where lease.owner = excluded.owner or lease.leased_until < clock_timestamp()
returning owner
"""
# Late in a slot, so that a scheduler that works again has its turn first and this loop stops.
TURN: Final = 4.3
# Seconds until the clock of the database is so many seconds into a slot.
UNTIL = f"""
select {SLOT_SECONDS} - mod(extract(epoch from clock_timestamp()) + {SLOT_SECONDS} - %s::numeric, {SLOT_SECONDS})::float
"""  # noqa: S608 - a constant


class Fallback:
    """The state of one process: its name in the lease, and the slot that it sampled last."""

    def __init__(self) -> None:
        self.owner = checkpoints.owner_name()
        self.last: int | None = None

    def step(self) -> int | None:
        """Sample if it is this process's turn; returns the slot, or None."""
        if not acquire(NAME, self.owner, LEASE_SECONDS):
            self.last = None
            return None
        present = tables.present_slot()
        newest = write.previous(present + 1)
        active = self.last is not None and newest == self.last
        if not active and newest is not None and present - newest <= sampling.LEAST_GAP:
            self.last = None
            return None
        if not active:
            log.warning("no sample since slot %s: sampling in this process", newest)
        self.last = sampling.tick()
        return self.last


def acquire(name: str, owner: str, seconds: float) -> bool:
    """Take or renew a lease; False while another process has it."""
    return bool(store.query(ACQUIRE, {"name": name, "owner": owner, "seconds": seconds}))


def seconds_until(turn: float) -> float:
    """Seconds until the next instant that is `turn` seconds into a slot."""
    pause: float = store.query(UNTIL, (turn,))[0][0]
    return pause


def run(stop: threading.Event) -> None:
    """Take a step in every slot until `stop` is set."""
    process_reports.start("subscriptions")
    state = Fallback()
    while not stop.is_set():
        pause = float(SLOT_SECONDS)
        try:
            state.step()
            pause = seconds_until(TURN)
        except sampling.AWAY as error:
            sampling.note_failure(error)
        except (errors.EventsError, psycopg.Error, DatabaseError):
            log.exception("no sample")
        finally:
            connection.close()
        stop.wait(pause)
