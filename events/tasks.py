"""Upkeep by the clock."""

from __future__ import annotations

from celery import shared_task

from events import seals, store

ROOM_AHEAD = 20_000_000
COMMAND_DAYS = 90

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
    gone = 0
    while batch := len(store.query(FORGET, (COMMAND_DAYS,))):
        gone += batch
    return gone


@shared_task
def seal() -> int:
    """Seal what was appended since the last time; returns how many seals that took."""
    return seals.seal()
