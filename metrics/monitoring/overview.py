"""The state of the running system: the queries and limits that operator pages and API share."""

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
from events.subscriptions import status as subscription_status
from events.subscriptions.status import SubscriptionStatus
from metrics.monitoring import throughput

REPLAY_SECONDS: Final = 10.0  # limit for one request that replays parked events; the next request continues
SILENT_SECONDS: Final = 60.0  # after this time without progress a builder may hang


# -- subscriptions --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ObservedSubscription:
    """The status of a checkpoint, and its throughput in positions a second; None until observed for long enough."""

    status: SubscriptionStatus
    throughput: float | None


def observed_subscriptions(subscription: str | None = None) -> list[ObservedSubscription]:
    """All checkpoints, or those of one subscription, by name."""
    found = subscription_status.statuses(subscription)
    known = throughput.observed({one.checkpoint.name: one.checkpoint.position for one in found})
    return [ObservedSubscription(one, known.get(one.checkpoint.name)) for one in found]


def parked_streams(subscription: str) -> list[str]:
    """The parked streams of a subscription, in the order in which they failed."""
    return [each.stream for each in parked.parked(subscription)]


# -- the log --------------------------------------------------------------------------------------------------------


class Sealed(msgspec.Struct, frozen=True):
    """The last seal (number 0: none yet) and the number of events after it; `many`: there are more than `unsealed`."""

    number: int
    upto: int
    hash: str | None
    sealed_at: datetime | None
    unsealed: int
    many: bool


def sealed(head: int) -> Sealed:
    found = seals.last()
    number, upto, link = found if found is not None else (0, 0, b"")
    unsealed, many = subscription_status.count_after(upto, head)
    return Sealed(number, upto, bytes(link).hex() or None, seals.sealed_at(number), unsealed, many)


# -- rebuilds -------------------------------------------------------------------------------------------------------


class UnknownTable(errors.EventsError):
    """This read table does not exist."""

    code = "not_found"
    status = 404


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadTable:
    """A read table.

    state  idle (never rebuilt, or done), waits (no worker has started the request), running, silent (no progress for
           `SILENT_SECONDS`) or interrupted
    rows   the planner's estimate
    bytes  including indexes
    """

    progress: RebuildProgress
    state: str
    rows: int
    bytes: int
    request: jobs.JobRequest | None

    @property
    def name(self) -> str:
        return self.progress.name


SIZES = """
select wanted.name, sum(greatest(c.reltuples, 0))::bigint, sum(pg_total_relation_size(c.oid))::bigint
  from unnest(%s::text[], %s::text[]) as wanted(name, stored)
  join pg_class c on c.oid = to_regclass(quote_ident(wanted.stored)) group by wanted.name
"""


def read_tables() -> list[ReadTable]:
    """Every read table that can be rebuilt, by name."""
    found = rebuild.progress()
    stored = [(table.name, name) for table in rebuild.tables() for name in rebuild.stored_in(table)]
    sizes = {row[0]: row[1:] for row in store.query(SIZES, tuple(map(list, zip(*stored, strict=True))))}
    return [_read_table(one, *sizes.get(one.name, (0, 0))) for one in found]


def _read_table(progress: RebuildProgress, rows: int, size: int) -> ReadTable:
    request = jobs.last_rebuild(progress.name)
    return ReadTable(progress=progress, state=_state(progress, request), rows=rows, bytes=size, request=request)


def _state(progress: RebuildProgress, request: jobs.JobRequest | None) -> str:
    if progress.running:
        quiet = (timezone.now() - progress.updated_at).total_seconds() if progress.updated_at else 0.0
        return "silent" if quiet > SILENT_SECONDS else "running"
    if request is not None and request.waits:
        return "waits"
    return "idle" if progress.phase in {"none", "done"} else "interrupted"


def known(table: str) -> None:
    """Raises `UnknownTable` unless this read table exists."""
    if all(table != one.name for one in rebuild.tables()):
        raise UnknownTable
