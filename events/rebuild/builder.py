"""Rebuilds a read table from the log beside the live one, then swaps the two in one short transaction.

    1  claim     the table's row in `events_rebuild`: one builder at a time, each of its transactions under a fence
    2  begin     create an empty table like the live one in its own schema; or continue where a killed builder stopped
    3  replay    the log up to the safe head, in batches; the position moves in the transaction that has the effect
    4  complete  the copy: indexes, constraints, statistics; views on the table are copied too
    5  catch up  with events written meanwhile
    6  swap      wait for a refresh of materialized views to end, then lock, replay the last events and move both
                 tables: one short transaction with a short lock timeout, so that writers do not wait
    7  clean up  validate the foreign keys, drop the old table

The live table is neither written nor locked before step 6. The rebuild calls the same projection functions: they name
their table, and `search_path` contains only the new schema. So a projection that uses any other table, or appends an
event, fails: it can have no side effects.

Nothing is lost: a command projects before it appends and keeps its lock on the read table until it commits. Once step 6
holds the exclusive lock, every event whose projection the live table has seen is committed, and the others wait.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import psycopg
from django.db import transaction

from events import errors, head, store, types
from events.archive import reader as archives
from events.db import driver_errors
from events.integrity.stored_rows import StoredRow
from events.rebuild import claim, read_tables, replay, shadow_table
from events.rebuild.read_tables import ReadTable, RebuildProgress
from events.types import NewEvent

BATCH: Final = 4_000
STRETCH: Final = 1_000_000  # positions scanned by one statement: few may be of the category
NEAR: Final = 2_000  # positions behind the head at which a swap is worth trying
MAX_TAIL: Final = 20_000  # events replayed while writers wait
LOCK_TIMEOUT: Final = "500ms"  # below deadlock_timeout: the rebuild gives up, never a writer
SWAP_PAUSE: Final = 0.5
REFRESH_TIMEOUT: Final = "10s"  # one attempt's wait for the end of a refresh that reads the table
INDEX_MEMORY: Final = "256MB"
PATIENCE: Final = 60.0

# -- the algorithm ----------------------------------------------------------------------------------------------------


def rebuild(
    name: str,
    *,
    fresh: bool = False,
    take_over: bool = False,
    report: claim.ReportProgress | None = None,
    batch: int = BATCH,
    patience: float = PATIENCE,
) -> RebuildProgress:
    """Rebuild a read table while it is read and written; returns its final progress.

    fresh         start from the beginning instead of continuing an interrupted rebuild
    take_over     replace a builder that is still connected but hangs: its fence is outdated and it stops
    report        called after every batch and phase
    patience      seconds during which the lock for the swap is tried

    Raises `RebuildRefused`; then the live table is untouched, and a later call continues.
    """
    table, report = read_tables.find(name), report or (lambda _: None)
    if isinstance(table, ReadTable):
        builder = Builder(table, report, batch)
        build: Callable[[], None] = partial(builder.build, fresh, patience)
        claimed: claim.Claim = builder
    else:
        claimed = claim.Claim(name, report)
        build = partial(table.build, claimed, patience)
    claimed.claim(take_over)  # 1
    try:
        build()
    except BaseException as error:
        claimed.release(error)
        raise
    return claimed.seen()


class Builder(claim.Claim):
    """One rebuild of one table: its state between the steps."""

    def __init__(self, table: ReadTable, report_progress: claim.ReportProgress, batch: int) -> None:
        super().__init__(table.name, report_progress)
        self.table, self.batch = table, batch
        self.loose = True  # while the copy has no unique index except its key, creations may be projected first
        self.path: str = store.query("select current_setting('search_path')")[0][0]
        self.tables = shadow_table.Tables(table.name)

    def build(self, fresh: bool, patience: float) -> None:
        if self.phase != "swapped":
            self.tables.refuse_loss()
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
        self.clean_up()  # 7

    # 2

    def begin(self, fresh: bool) -> None:
        recipe = self._recipe()
        if not fresh and self.recipe == recipe and self.phase not in {"new", "done"} and self.tables.has_shadow():
            self.loose = not self.tables.unique_indexes()
            return
        with transaction.atomic():
            self.restart(recipe)
            self.tables.make_shadow()

    def _recipe(self) -> str:
        """Digest of everything the copy depends on: epoch, shape, projection and event schemas."""
        module = sys.modules[self.table.project.__module__]
        ours = [known for known in types.event_types() if known.name.startswith(f"{self.table.category}.")]
        schemas = [f"{known.name} {known.schema_version}" for known in ours]
        parts = [head.epoch(), self.tables.shape(), inspect.getsource(module), *schemas]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    # 3 and 5

    def catch_up(self, phase: str) -> None:
        """Replay until the head is at most `NEAR` positions away. Each batch is a transaction."""
        while True:
            upto = head.safe()
            while self.position < upto:
                near = min(upto, self.position + STRETCH)
                self.replay(self.read(near, self.batch), near, upto, phase)
            if head.safe() - self.position <= NEAR:
                return

    def read(self, upto: int, limit: int) -> list[tuple[int, NewEvent | None]]:
        """The next events of the category, typed (None: unreadable), with positions; archived ones from files."""
        category = self.table.category
        try:
            return replay.read(category, self.position, upto, limit)
        except psycopg.Error as error:
            gone = driver_errors.translate(error)
            if not isinstance(gone, errors.Archived):
                raise
        found = archives.in_order(self.position, min(upto, gone.upto), self._is_of_category, limit)
        past = replay.from_archive(found)
        return past if len(past) == limit else past + replay.read(category, gone.upto, upto, limit - len(past))

    def _is_of_category(self, row: StoredRow) -> bool:
        return types.category_of(row.stream) == self.table.category

    def replay(self, events: Sequence[tuple[int, NewEvent | None]], near: int, target: int, phase: str) -> None:
        """Project the events read up to `near`; `target` is the head for the progress."""
        reached = events[-1][0] if len(events) == self.batch else near
        skipped = _unreadable(events)
        try:
            with self.step(phase, reached, len(events), target, skipped):
                self.project(_readable(events))
        except (errors.EventsError, psycopg.Error) as error:
            if self.loose or not _is_unique_violation(error):
                raise
            # Events of one transaction may be in the log in another order than their projections ran, so a unique value
            # may be assigned here before it is released. Building the index checks the final state.
            self.loose = True
            with self.step(phase, reached, len(events), target, skipped):
                self.tables.drop_unique_indexes()
                self.project(_readable(events))

    def project(self, events: list[NewEvent]) -> None:
        """Run the projection on the copy, in the caller's transaction."""
        if self.loose:
            events.sort(key=_is_later)  # creations first, each stream still in order: many become one statement
        with self.tables.only_the_shadow(self.path):
            if events:
                self.table.project(events)

    # 4

    def complete(self) -> None:
        """Create the objects that are created faster with the rows present.

        Each has a transaction of its own, so that nothing is done twice.
        """
        for statement in self.tables.missing():
            with self.step("indexing", self.position), self.tables.shadow_first(self.path):
                store.execute(f"set local maintenance_work_mem = '{INDEX_MEMORY}'")
                shadow_table.run(statement)
        self.loose = False

    # 6

    def swap(self) -> bool:
        """Swap the copy in; False when it is not complete or the lock is not available."""
        if self.loose or self.tables.missing():
            return False
        try:
            with transaction.atomic():
                store.execute(f"set local lock_timeout = '{REFRESH_TIMEOUT}'")
                store.query(read_tables.WAIT_FOR_SWAP_LOCK)  # holds no other lock yet, so nobody waits for it
                store.execute(f"set local lock_timeout = '{LOCK_TIMEOUT}'")
                keys = self.tables.lock()
                upto = head.last()  # everyone who wrote this table has committed
                tail = self.read(upto, MAX_TAIL + 1)
                swapped = len(tail) <= MAX_TAIL
                if swapped:
                    with self.fenced("swapped", upto, len(tail), upto, _unreadable(tail)):
                        self.project(_readable(tail))
                        self.tables.swap(keys)
            if swapped:
                self.report_progress(self.seen())
                return True
        except (errors.EventsError, psycopg.Error) as error:
            if not _is_unique_violation(error) and not driver_errors.is_temporary(error):
                raise
        time.sleep(SWAP_PAUSE)  # lets sessions queued behind this one go first
        return False

    # 7

    def clean_up(self) -> None:
        for statement in self.tables.leftovers():
            with self.step("swapped", self.position):
                shadow_table.run(statement)
        with self.step("done", self.position):
            pass
        self.release()


def _readable(events: Sequence[tuple[int, NewEvent | None]]) -> list[NewEvent]:
    return [event for _, event in events if event is not None]


def _unreadable(events: Sequence[tuple[int, NewEvent | None]]) -> int:
    return sum(event is None for _, event in events)


def _is_later(event: NewEvent) -> bool:
    return event.version > 1


def _is_unique_violation(error: BaseException) -> bool:
    cause = error if isinstance(error, psycopg.Error) else error.__cause__
    return isinstance(cause, psycopg.errors.UniqueViolation)
