"""The running system as its operators see it: what pages and API both show and do, asked in one place."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec
from django.utils import timezone

from events import errors, jobs, store
from events.integrity import seals
from events.rebuild import read_tables as rebuild
from events.rebuild.read_tables import RebuildProgress
from events.subscriptions import parked
from events.subscriptions import status as standing
from events.subscriptions.status import SubscriptionStatus
from metrics.monitoring import throughput

REPLAY_SECONDS: Final = 10.0  # that one request may spend on parked events; what is left waits for the next
SILENT_SECONDS: Final = 60.0  # without a sign of a builder, from which it may hang


# -- subscriptions --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Moving:
    """A checkpoint and its pace, in positions a second; None while it was not seen for long enough."""

    standing: SubscriptionStatus
    pace: float | None


def moving(subscription: str | None = None) -> list[Moving]:
    """All checkpoints, or those of one subscription, by name."""
    found = standing.statuses(subscription)
    known = throughput.observed({one.status.name: one.status.position for one in found})
    return [Moving(one, known.get(one.status.name)) for one in found]


def parked_streams(subscription: str) -> list[str]:
    """Everything that a subscription has put aside, in the order in which it failed."""
    return [each.stream for each in parked.parked(subscription)]


# -- the log --------------------------------------------------------------------------------------------------------


class Sealed(msgspec.Struct, frozen=True):
    """The last seal (number 0: none yet), and how many events there are after it; `many`: more than were counted."""

    number: int
    upto: int
    hash: str | None
    sealed_at: datetime | None
    unsealed: int
    many: bool


def sealed(head: int) -> Sealed:
    found = seals.last()
    number, upto, link = found if found is not None else (0, 0, b"")
    unsealed, many = standing.count_after(upto, head)
    return Sealed(number, upto, bytes(link).hex() or None, seals.sealed_at(number), unsealed, many)


# -- rebuilds -------------------------------------------------------------------------------------------------------


class UnknownTable(errors.EventsError):
    """There is no such read table."""

    code = "not_found"
    status = 404


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadTable:
    """A read table. `state`: idle (never rebuilt, or done), waits (a wish no worker has begun), running, silent (its
    builder gave no sign for a minute) or interrupted. `rows` is the planner's estimate, `bytes` with indexes.
    """

    progress: RebuildProgress
    state: str
    rows: int
    bytes: int
    wish: jobs.JobRequest | None

    @property
    def name(self) -> str:
        return self.progress.name


SIZES = """
select name, greatest(c.reltuples, 0)::bigint, pg_total_relation_size(c.oid)
  from unnest(%s::text[]) as wanted(name) join pg_class c on c.oid = to_regclass(quote_ident(wanted.name))
"""


def read_tables() -> list[ReadTable]:
    """Every read table that can be rebuilt, by name."""
    now = rebuild.progress()
    sizes = {row[0]: row[1:] for row in store.query(SIZES, ([one.name for one in now],))}
    return [_read_table(one, *sizes.get(one.name, (0, 0))) for one in now]


def _read_table(progress: RebuildProgress, rows: int, size: int) -> ReadTable:
    wish = jobs.last_rebuild(progress.name)
    return ReadTable(progress=progress, state=_state(progress, wish), rows=rows, bytes=size, wish=wish)


def _state(progress: RebuildProgress, wish: jobs.JobRequest | None) -> str:
    if progress.running:
        quiet = (timezone.now() - progress.updated_at).total_seconds() if progress.updated_at else 0.0
        return "silent" if quiet > SILENT_SECONDS else "running"
    if wish is not None and wish.waits:
        return "waits"
    return "idle" if progress.phase in {"none", "done"} else "interrupted"


def known(table: str) -> None:
    """Raises `UnknownTable`."""
    if all(table != one.name for one in rebuild.tables()):
        raise UnknownTable
