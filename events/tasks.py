"""Upkeep by the clock."""

from __future__ import annotations

import logging
from collections.abc import Callable

from celery import shared_task
from django.db import transaction

from events import commands, errors, jobs, snapshots, store
from events.integrity import seals
from events.privacy import erasure

log = logging.getLogger(__name__)

ROOM_AHEAD = 20_000_000
COMMAND_DAYS = 90
LONG_SECONDS = 12 * 3600  # what rebuilding or checking a very long log may take

FORGET = """
delete from events_command where id = any(array(
    select id from events_command where created_at < now() - %s * interval '1 day' limit 10000)) returning 1
"""


@shared_task
def make_room() -> int:
    """Make the partitions for the next positions; returns how many were new."""
    made: int = store.query(
        "select events_partition(coalesce(pg_sequence_last_value('events_position_seq'), 0) + %s)", (ROOM_AHEAD,)
    )[0][0]
    return made


@shared_task
def forget_commands() -> int:
    """Forget answers to commands older than any client would repeat them; returns how many went."""
    _in_batches(commands.key_fingerprints)
    gone = 0
    while batch := len(store.query(FORGET, (COMMAND_DAYS,))):
        gone += batch
    return gone


@shared_task
def seal() -> int:
    """Seal what was appended since the last time; returns how many seals that took."""
    return seals.seal()


# Delivered again when the worker dies: a rebuild goes on where it was, and a wish that was settled does nothing.
@shared_task(time_limit=LONG_SECONDS, reject_on_worker_lost=True)
def rebuild(table: str, version: int) -> None:
    """Carry out the wish of that version for a read table; what comes of it stands in its progress."""
    try:
        jobs.do_rebuild(table, version)
    except errors.EventsError as error:
        log.warning("rebuild of %s: %s", table, error)


@shared_task(time_limit=LONG_SECONDS, reject_on_worker_lost=True)
def verify_log(version: int) -> None:
    """Check the whole log for the wish of that version; the result is an event."""
    if jobs.do_verification(version) is False:
        log.error("the log is not what was written: see `manage.py verify_events`")


@shared_task
def snapshot() -> tuple[int, int]:
    """Take snapshots that are due by age and drop old ones; returns how many of each."""
    _in_batches(snapshots.encrypt_plain)
    return snapshots.refresh(), snapshots.prune()


@shared_task
def finish_erasures() -> int:
    """Purge what erasures left readable: of a process that died, or more than a request waits for."""
    return erasure.finish()


def _in_batches(some: Callable[[int], int]) -> None:
    """Call `some` with a batch size, each time in a transaction, until it did less than a batch."""
    done = erasure.BATCH
    while done >= erasure.BATCH:
        with transaction.atomic():
            done = some(erasure.BATCH)
