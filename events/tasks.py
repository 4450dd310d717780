"""Celery tasks: scheduled maintenance of the store, and the long jobs of `events.jobs`."""

from __future__ import annotations

import logging
from collections.abc import Callable

from celery import shared_task
from django.db import transaction

from events import answers, errors, jobs, snapshot_upkeep, snapshots, store
from events.integrity import seals
from events.privacy import purging

log = logging.getLogger(__name__)

POSITIONS_AHEAD = 20_000_000
COMMAND_DAYS = 90
LONG_SECONDS = 12 * 3600  # enough to rebuild from or verify a very long log

FORGET = """
delete from events_command where id = any(array(
    select id from events_command where created_at < now() - %s * interval '1 day' limit 10000)) returning 1
"""


@shared_task
def create_partitions() -> int:
    """Create the partitions for the next positions; returns how many were new."""
    made: int = store.query(
        "select events_partition(coalesce(pg_sequence_last_value('events_position_seq'), 0) + %s)", (POSITIONS_AHEAD,)
    )[0][0]
    return made


@shared_task
def forget_commands() -> int:
    """Delete answers to commands that are too old to be repeated; returns how many."""
    _in_batches(answers.key_fingerprints)
    gone = 0
    while batch := len(store.query(FORGET, (COMMAND_DAYS,))):
        gone += batch
    return gone


@shared_task
def seal() -> int:
    """Seal the events appended since the last seal; returns the number of new seals."""
    return seals.seal()


# Redelivered when the worker dies: a rebuild resumes, and a superseded request does nothing.
@shared_task(time_limit=LONG_SECONDS, reject_on_worker_lost=True)
def rebuild(table: str, version: int) -> None:
    """Run the rebuild request of that version; its outcome is recorded in the table's progress."""
    try:
        jobs.do_rebuild(table, version)
    except errors.EventsError as error:
        log.warning("rebuild of %s: %s", table, error)


@shared_task(time_limit=LONG_SECONDS, reject_on_worker_lost=True)
def verify_log(version: int) -> None:
    """Run the verification request of that version; the result is an event."""
    if jobs.do_verification(version) is False:
        log.error("verification of the log failed: see `manage.py verify_events`")


@shared_task
def resume_jobs() -> list[str]:
    """Send the tasks of rebuilds and verifications whose worker was killed; returns them."""
    return jobs.resume()


@shared_task
def snapshot() -> tuple[int, int]:
    """Take snapshots that are due by age and delete old ones; returns the number of each."""
    _in_batches(snapshots.encrypt_plain)
    return snapshot_upkeep.refresh(), snapshot_upkeep.prune()


# Of one task: some minutes of work. The next one continues, at most a minute later.
PURGED_AT_ONCE = 500_000


@shared_task(reject_on_worker_lost=True)
def finish_erasures() -> int:
    """Finish purges that a process left unfinished: it died, or the rest was too much for one request."""
    return purging.finish(most=PURGED_AT_ONCE, is_patient=False)


def _in_batches(some: Callable[[int], int]) -> None:
    """Call `some` with a batch size, each time in a transaction, until it handles less than a batch."""
    done = purging.BATCH
    while done >= purging.BATCH:
        with transaction.atomic():
            done = some(purging.BATCH)
