"""Build a read table anew from the log, beside the one in use, and swap the two in an instant.

    1  claim    the table's row in `events_rebuild`: one builder at a time, every transaction of it under a fence
    2  begin    an empty table like the live one in a schema of its own; or go on where a killed builder stopped
    3  replay   the log up to the safe head, in batches; the position moves in the transaction that has the effect
    4  finish   the copy: indexes, constraints, statistics; views on the table are copied beside it too
    5  catch up with what was written meanwhile
    6  swap     lock, replay the last few events, move both tables: one short transaction that would rather give up
                than keep anybody waiting
    7  tidy     check the foreign keys, drop the old table

The live table is neither written nor locked before step 6. The same projection functions do the work: they name their
table, and `search_path` holds the new schema and nothing else. So a projection that touches any other table, or appends
an event, fails instead of doing it: there are no side effects, because there is nothing within reach to have them on.

Why nothing is lost: a command projects before it appends and keeps its lock on the read table until it commits. Once
step 6 holds the exclusive lock, every event whose projection the live table has seen is committed, and the others wait.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

import msgspec
import psycopg
from django.db import connection, transaction

from events import decoding, errors, head, store, strict_json, types
from events.archive import reader as archives
from events.db import driver_errors
from events.extension import Projection
from events.integrity.seals import Row
from events.privacy import encryption
from events.rebuild import shadow_table
from events.subscriptions import checkpoints, parked
from events.types import NewEvent

log = logging.getLogger(__name__)

BATCH: Final = 4_000
STRETCH: Final = 1_000_000  # positions looked through in one statement: few may be of our category
NEAR: Final = 2_000  # positions behind the head at which a swap is worth trying
MAX_TAIL: Final = 20_000  # events that writers may be kept waiting for
LOCK_TIMEOUT: Final = "500ms"  # below deadlock_timeout: it is the rebuild that yields, never a writer
SWAP_PAUSE: Final = 0.5
INDEX_MEMORY: Final = "256MB"
PATIENCE: Final = 60.0
TAKEN_OVER: Final = "Another rebuild of {} took over, or an erasure ended this one: start it again."


class ReadTable(msgspec.Struct, frozen=True, kw_only=True):
    """A read table that can be rebuilt: its name, the category of the events in it, and what keeps it."""

    name: str
    category: str
    project: Projection


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a rebuild has come. Positions are of the log; `seconds_left` is None when there is nothing to go by.
    `unreadable` events were left out because this release cannot read them.

    phase  new, building, indexing, catching up, swapped, done; or none when the table was never rebuilt
    """

    name: str
    phase: str
    running: bool
    position: int = 0
    target: int = 0
    events: int = 0
    seconds_left: float | None = None
    owner: str | None = None
    started_at: datetime | None = None
    updated_at: datetime | None = None
    finished_at: datetime | None = None
    error: str | None = None
    resumed_at: datetime | None = None
    unreadable: int = 0


Report = Callable[[Progress], None]

_tables: dict[str, ReadTable] = {}


def register(table: ReadTable) -> None:
    """Make a read table known; called from `AppConfig.ready()`. Registering it again does nothing."""
    known = _tables.get(table.name)
    if known is not None and known != table:
        raise RuntimeError(f"two read tables are called {table.name!r}")
    _tables[table.name] = table


def tables() -> list[ReadTable]:
    return [_tables[name] for name in sorted(_tables)]


# -- seen from outside ----------------------------------------------------------------------------------------------

ALIVE = "exists (select 1 from pg_stat_activity a where a.pid = r.pid and a.backend_start = r.backend_start)"

PROGRESS = f"""
select r.name, r.phase, {ALIVE} as running, r.position, r.target, r.events,
       extract(epoch from r.updated_at - r.resumed_at) * (r.target - r.position)
           / nullif(r.position - r.resumed_from, 0) as seconds_left,
       case when {ALIVE} then r.owner end as owner, r.started_at, r.updated_at, r.finished_at, r.error,
       r.resumed_at, r.unreadable
  from events_rebuild r
"""  # noqa: S608 - ALIVE is a constant


def progress() -> list[Progress]:
    """The latest rebuild of every read table."""
    names = Progress.__struct_fields__
    rows = {row[0]: Progress(**dict(zip(names, _plain(row), strict=True))) for row in store.query(PROGRESS)}
    return [rows.get(table.name, Progress(name=table.name, phase="none", running=False)) for table in tables()]


def _plain(row: Sequence[Any]) -> list[Any]:
    left = row[6]
    return [*row[:6], None if left is None else max(float(left), 0.0), *row[7:]]


# -- stopped from outside --------------------------------------------------------------------------------------------

CANCEL = """
update events_rebuild
   set fence = fence + 1, owner = null, pid = null, backend_start = null, error = 'cancelled',
       updated_at = clock_timestamp()
 where name = %s and phase not in ('swapped', 'done') and error is distinct from 'cancelled' returning name
"""

INTERRUPT = """
select pg_cancel_backend(r.pid) from events_rebuild r
  join pg_stat_activity a on a.pid = r.pid and a.backend_start = r.backend_start where r.name = %s
"""

CANCEL_ATTEMPTS: Final = 5
CANCEL_LOCK_TIMEOUT: Final = "1s"


def cancel(name: str) -> bool:
    """Stop the rebuild of a table, whether its builder works or was killed: it finds its fence gone. What is built is
    kept, and the next rebuild goes on from there. False when there is nothing to stop, or it is past the swap.
    """
    for _ in range(CANCEL_ATTEMPTS):
        try:
            with transaction.atomic():
                store.execute(f"set local lock_timeout = '{CANCEL_LOCK_TIMEOUT}'")
                return bool(store.query(CANCEL, (name,)))
        except psycopg.errors.LockNotAvailable:
            store.query(INTERRUPT, (name,))  # a long statement, an index for instance, is not worth waiting for
    raise errors.RebuildRefused(f"The rebuild of {name} cannot be stopped just now; try again.")


# -- the algorithm --------------------------------------------------------------------------------------------------


def rebuild(
    name: str,
    *,
    fresh: bool = False,
    take_over: bool = False,
    report: Report | None = None,
    batch: int = BATCH,
    patience: float = PATIENCE,
) -> Progress:
    """Rebuild a read table while everybody goes on reading and writing it; returns how it ended.

    fresh      start anew instead of going on where a builder that was killed had come to
    take_over  also from a builder that is still connected (one that hangs): it finds its fence gone and stops
    report     called after every batch and phase
    patience   seconds to go on trying for the lock of the swap

    Raises `RebuildRefused`; then the live table is untouched, and a later call goes on from there.
    """
    if name not in _tables:
        raise errors.RebuildRefused(f"No read table is called {name!r}. Known: {', '.join(sorted(_tables))}.")
    builder = _Builder(_tables[name], report or (lambda _: None), batch)
    builder.claim(take_over)  # 1
    try:
        builder.build(fresh, patience)
    except BaseException as error:
        builder.let_go(error)
        raise
    return builder.seen()


CLAIM = f"""
insert into events_rebuild as r (name, phase, owner, pid, backend_start)
select %(name)s, 'new', %(owner)s, a.pid, a.backend_start from pg_stat_activity a where a.pid = pg_backend_pid()
on conflict (name) do update
   set owner = excluded.owner, pid = excluded.pid, backend_start = excluded.backend_start, fence = r.fence + 1,
       resumed_at = clock_timestamp(), resumed_from = r.position, error = null, finished_at = null
 where %(take_over)s or r.pid = pg_backend_pid() or not {ALIVE}
returning fence, phase, position, recipe
"""  # noqa: S608

ADVANCE = """
update events_rebuild
   set phase = %(phase)s, position = %(position)s, events = events + %(events)s, target = greatest(target, %(target)s),
       unreadable = unreadable + %(unreadable)s, updated_at = clock_timestamp()
 where name = %(name)s and fence = %(fence)s returning name
"""

RESTART = """
update events_rebuild
   set phase = 'building', position = 0, events = 0, target = 0, unreadable = 0, recipe = %(recipe)s,
       started_at = clock_timestamp(), resumed_at = clock_timestamp(), resumed_from = 0
 where name = %(name)s and fence = %(fence)s returning name
"""

LET_GO = """
update events_rebuild
   set owner = null, pid = null, backend_start = null, error = %(error)s,
       finished_at = case when phase = 'done' then clock_timestamp() end
 where name = %(name)s and fence = %(fence)s
"""

# The category is told in a way that no index knows: with a range of names PostgreSQL, which plans this once for all
# positions, would look up every event of the category and sort them, for each page again.
READ = f"""
select position, stream, version, type, schema_version, data::text, event_id, {decoding.INSTANT},
       {encryption.GENERATION}
  from events_event
 where position > %s and position <= %s and events_here(%s) and split_part(stream, '-', 1) = %s
 order by position limit %s
"""  # noqa: S608 - constants


class _Builder:
    """One rebuild of one table: what it knows between its steps."""

    def __init__(self, table: ReadTable, report: Report, batch: int) -> None:
        self.table, self.report, self.batch = table, report, batch
        self.fence = self.position = 0
        self.phase, self.recipe = "new", ""
        self.loose = True  # while the copy has no unique index but its key, creations may be handled first
        self.path: str = store.query("select current_setting('search_path')")[0][0]
        self.tables = shadow_table.Tables(table.name)

    # 1

    def claim(self, take_over: bool) -> None:
        mine = {"name": self.table.name, "owner": checkpoints.owner_name(), "take_over": take_over}
        found = store.query(CLAIM, mine)
        if not found:
            owner = next(one.owner for one in progress() if one.name == self.table.name)
            raise errors.RebuildRefused(f"{self.table.name} is being rebuilt by {owner}.")
        self.fence, self.phase, self.position, self.recipe = found[0]

    def let_go(self, error: BaseException | None = None) -> None:
        """The next builder need not wait for our connection to end."""
        told = parked.describe(error) if error else None
        try:
            store.execute(LET_GO, {"name": self.table.name, "fence": self.fence, "error": told})
        except (errors.EventsError, psycopg.Error) as failure:
            log.warning("rebuild of %s: cannot say that it ended (%s)", self.table.name, failure)

    def build(self, fresh: bool, patience: float) -> None:
        if self.phase != "swapped":
            self.tables.refuse_what_would_be_lost()
            self.begin(fresh)  # 2
            deadline = time.monotonic() + patience
            self.catch_up("building")  # 3
            while not self.swap():  # 6
                self.complete()  # 4
                self.catch_up("catching up")  # 5
                if time.monotonic() > deadline:
                    raise errors.RebuildRefused(
                        f"{self.table.name} could not be locked for the swap within {patience:g} s: a long transaction "
                        "is using it, or too much is being written. The new table is kept; try again."
                    )
        self.tidy()  # 7

    # 2

    def begin(self, fresh: bool) -> None:
        recipe = self._recipe()
        if not fresh and self.recipe == recipe and self.phase not in {"new", "done"} and self.tables.has_shadow():
            self.loose = not self.tables.unique_indexes()
            return
        with transaction.atomic():
            if not store.query(RESTART, {"name": self.table.name, "fence": self.fence, "recipe": recipe}):
                raise errors.LeaseLost(TAKEN_OVER.format(self.table.name))
            self.tables.make_shadow()
        self.phase, self.position = "building", 0

    def _recipe(self) -> str:
        """What the copy depends on: another epoch, shape, projection or event schema needs another copy."""
        module = sys.modules[self.table.project.__module__]
        ours = [known for known in types.event_types() if known.name.startswith(f"{self.table.category}.")]
        schemas = [f"{known.name} {known.schema_version}" for known in ours]
        parts = [head.epoch(), self.tables.shape(), inspect.getsource(module), *schemas]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    # 3 and 5

    def catch_up(self, phase: str) -> None:
        """Replay until the head is near. Each batch is a transaction."""
        while True:
            upto = head.safe()
            while self.position < upto:
                near = min(upto, self.position + STRETCH)
                self.replay(self.read(near, self.batch), near, upto, phase)
            if head.safe() - self.position <= NEAR:
                return

    def read(self, upto: int, limit: int) -> list[tuple[int, NewEvent | None]]:
        """The next events of our category, typed (None: unreadable), with their positions; archived ones from files."""
        category = self.table.category
        try:
            return replayed(category, self.position, upto, limit)
        except psycopg.Error as error:
            gone = driver_errors.translate(error)
            if not isinstance(gone, errors.Archived):
                raise
        found = archives.in_order(self.position, min(upto, gone.upto), self._is_ours, limit)
        past = _typed([_as_read(row) for row in found])
        return past if len(past) == limit else past + replayed(category, gone.upto, upto, limit - len(past))

    def _is_ours(self, row: Row) -> bool:
        return types.category_of(row.stream) == self.table.category

    def replay(self, events: Sequence[tuple[int, NewEvent | None]], near: int, target: int, phase: str) -> None:
        """Project what was read up to `near`, on the way to `target`."""
        reached = events[-1][0] if len(events) == self.batch else near
        left_out = _unreadable(events)
        try:
            with self.step(phase, reached, len(events), target, left_out):
                self.project(_readable(events))
        except (errors.EventsError, psycopg.Error) as error:
            if self.loose or not _is_unique_violation(error):
                raise
            # Events of one transaction may stand in the log in another order than their projections ran, so that a
            # value is taken here before it is given up. What must hold in the end is checked when the index is built.
            self.loose = True
            with self.step(phase, reached, len(events), target, left_out):
                self.tables.drop_unique_indexes()
                self.project(_readable(events))

    def project(self, events: list[NewEvent]) -> None:
        """The projection, on the copy, in the transaction of the caller."""
        if self.loose:
            events.sort(key=_is_later)  # creations first, each stream still in order: many become one statement
        with self.tables.only_the_shadow(self.path):
            if events:
                self.table.project(events)

    @contextmanager
    def step(self, phase: str, position: int, events: int = 0, target: int = 0, unreadable: int = 0) -> Iterator[None]:
        """A transaction under our fence that ends at this phase and position; raises `LeaseLost`."""
        with self.fenced(phase, position, events, target, unreadable):
            yield
        self.report(self.seen())

    @contextmanager
    def fenced(
        self, phase: str, position: int, events: int = 0, target: int = 0, unreadable: int = 0
    ) -> Iterator[None]:
        """`step` without a word to anybody: whoever is told takes their time, and the caller may hold locks."""
        now = {"phase": phase, "position": position, "events": events, "target": target, "unreadable": unreadable}
        with transaction.atomic():
            if not store.query(ADVANCE, {"name": self.table.name, "fence": self.fence, **now}):
                raise errors.LeaseLost(TAKEN_OVER.format(self.table.name))
            yield
        self.phase, self.position = phase, position

    # 4

    def complete(self) -> None:
        """What is quicker to make when the rows are there; one transaction each, so that nothing is made twice."""
        for statement in self.tables.missing():
            with self.step("indexing", self.position), self.tables.shadow_first(self.path):
                store.execute(f"set local maintenance_work_mem = '{INDEX_MEMORY}'")
                shadow_table.run(statement)
        self.loose = False

    # 6

    def swap(self) -> bool:
        """Put the copy in place; False when it is not ready, or the lock is not to be had just now."""
        if self.loose or self.tables.missing():
            return False
        try:
            with transaction.atomic():
                store.execute(f"set local lock_timeout = '{LOCK_TIMEOUT}'")
                keys = self.tables.lock()
                upto = head.last()  # nobody else can have touched this table and not be committed
                tail = self.read(upto, MAX_TAIL + 1)
                swapped = len(tail) <= MAX_TAIL
                if swapped:
                    with self.fenced("swapped", upto, len(tail), upto, _unreadable(tail)):
                        self.project(_readable(tail))
                        self.tables.swap(keys)
            if swapped:
                self.report(self.seen())
                return True
        except (errors.EventsError, psycopg.Error) as error:
            if not _is_unique_violation(error) and not driver_errors.is_temporary(error):
                raise
        time.sleep(SWAP_PAUSE)  # whoever queued behind us comes first
        return False

    # 7

    def tidy(self) -> None:
        for statement in self.tables.leftovers():
            with self.step("swapped", self.position):
                shadow_table.run(statement)
        with self.step("done", self.position):
            pass
        self.let_go()

    def seen(self) -> Progress:
        return next(one for one in progress() if one.name == self.table.name)


def _readable(events: Sequence[tuple[int, NewEvent | None]]) -> list[NewEvent]:
    return [event for _, event in events if event is not None]


def _unreadable(events: Sequence[tuple[int, NewEvent | None]]) -> int:
    return sum(event is None for _, event in events)


def replayed(category: str, after: int, upto: int, limit: int) -> list[tuple[int, NewEvent | None]]:
    """Events of one kind of record in (`after`, `upto`], typed (None: unreadable), each with its position.

    Where they are archived, the driver's error for that: it is translated by who wants to read on from the files.
    """
    connection.ensure_connection()
    bounds = (after, upto, after, category, limit)
    cursor: psycopg.Cursor[Any] = psycopg.Cursor(connection.connection)
    return _typed(cursor.execute(READ, bounds, binary=True).fetchall())


def _typed(rows: Sequence[Sequence[Any]]) -> list[tuple[int, NewEvent | None]]:
    """Rows of `READ` as what the projection got when the events were new, but upcast, each with its position.

    None stands for an event that cannot be read; it is logged.
    """
    generation = rows[0][8] if rows else None
    opener = encryption.Opener(decoding.generation() if generation is None else generation)
    sealed = {row[0]: decoding.stored_data(row[5]) for row in rows if encryption.MARK in row[5]}
    for row in rows:
        if data := sealed.get(row[0]):
            opener.want(row[1], data)
    if missing := opener.missing:
        opener.learn(store.query(encryption.KEYS, (missing,)), store.once_committed)
    return [(row[0], _new(row, sealed, opener)) for row in rows]


def _new(
    row: Sequence[Any], encrypted: Mapping[int, types.JsonDict | None], opener: encryption.Opener
) -> NewEvent | None:
    """The quick way, of an event of today's version, decodes into its class at once; a long number is read as
    everywhere else (`strict_json.stored`).
    """
    try:
        known = types.event_type_of(row[3])
        if row[7] is None:
            raise errors.UnreadableEvent("no_instant", row[1], row[2], row[0])
        if row[0] in encrypted:
            sealed = encrypted[row[0]]
            if sealed is None:
                raise errors.UnreadableEvent("not_json", row[1], row[2], row[0])
            opener.open(row[1], row[6], row[3], sealed)
            data = types.decode_event(row[3], row[4], sealed)
        elif row[4] == known.schema_version and not strict_json.has_long_number(row[5]):
            data = msgspec.json.decode(row[5], type=known.cls)
            types.demand_fit(known, data)
        else:
            data = types.decode_event(row[3], row[4], strict_json.stored(row[5]))
    except Exception as error:
        log.warning("event %d of %s is left out, it cannot be read: %s", row[0], row[1], parked.describe(error))
        return None
    return NewEvent(stream=row[1], version=row[2], data=data, event_id=row[6], recorded_at=row[7])


def _as_read(row: Row) -> tuple[Any, ...]:
    """An archived event as a row of `READ`."""
    known = (row.position, row.stream, row.version, row.type, row.schema_version, row.data)
    return (*known, uuid.UUID(row.event_id), archives.instant(row), None)


def _is_later(event: NewEvent) -> bool:
    return event.version > 1


def _is_unique_violation(error: BaseException) -> bool:
    cause = error if isinstance(error, psycopg.Error) else error.__cause__
    return isinstance(cause, psycopg.errors.UniqueViolation)


# -- erasure --------------------------------------------------------------------------------------------------------

STOP = """
update events_rebuild
   set phase = 'new', position = 0, recipe = '', fence = fence + 1, error = 'ended by an erasure; start it again'
 where phase not in ('done', 'swapped') and started_at < %s returning name
"""

DISCARD = "select events_discard_copies(%s)"


def stop(before: datetime) -> int:
    """End rebuilds that were begun before an erasure: what they have copied may be what was erased. Builders at work
    find their fence gone.
    """
    return len(store.query(STOP, (before,)))


def discard(before: datetime) -> int:
    """Drop the copies of those rebuilds, and what a swap left; returns how many schemas went. Needs the owner's rights,
    or the one of `events.db.grants`.
    """
    gone: int = store.query(DISCARD, (before,))[0][0]
    return gone
