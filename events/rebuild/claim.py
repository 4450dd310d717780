"""The claim on one rebuild: one builder at a time, its transactions under a fence, progress in one row.

`builder.Builder` replays the log under a claim. `read_tables.SeededTables` are built by SQL under a plain claim.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
from django.db import transaction

from events import errors, store
from events.rebuild import read_tables
from events.rebuild.read_tables import RebuildProgress
from events.subscriptions import checkpoints, parked

log = logging.getLogger(__name__)

TAKEN_OVER: Final = "Another rebuild of {} took over, or an erasure ended this one: start it again."

ReportProgress = Callable[[RebuildProgress], None]

CLAIM = f"""
insert into events_rebuild as r (name, phase, owner, pid, backend_start)
select %(name)s, 'new', %(owner)s, a.pid, a.backend_start from pg_stat_activity a where a.pid = pg_backend_pid()
on conflict (name) do update
   set owner = excluded.owner, pid = excluded.pid, backend_start = excluded.backend_start, fence = r.fence + 1,
       resumed_at = clock_timestamp(), resumed_from = r.position, error = null, finished_at = null
 where %(take_over)s or r.pid = pg_backend_pid() or not {read_tables.ALIVE}
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

RELEASE = """
update events_rebuild
   set owner = null, pid = null, backend_start = null, error = %(error)s,
       finished_at = case when phase = 'done' then clock_timestamp() end
 where name = %(name)s and fence = %(fence)s
"""


class Claim:
    """The right to rebuild the tables registered under `name`, from `claim` until `release`."""

    def __init__(self, name: str, report_progress: ReportProgress) -> None:
        self.name, self.report_progress = name, report_progress
        self.fence = self.position = 0
        self.phase, self.recipe = "new", ""

    def claim(self, take_over: bool) -> None:
        mine = {"name": self.name, "owner": checkpoints.owner_name(), "take_over": take_over}
        try:
            found = store.query(CLAIM, mine)
        except psycopg.errors.InsufficientPrivilege as error:
            raise errors.RebuildRefused(
                f"This application does not own {self.name}: its owner runs rebuild_projection {self.name}."
            ) from error
        if not found:
            owner = next(one.owner for one in read_tables.progress() if one.name == self.name)
            raise errors.RebuildRefused(f"{self.name} is being rebuilt by {owner}.")
        self.fence, self.phase, self.position, self.recipe = found[0]

    def release(self, error: BaseException | None = None) -> None:
        """Release the claim, so that the next builder need not wait until this connection ends."""
        description = parked.describe(error) if error else None
        try:
            store.execute(RELEASE, {"name": self.name, "fence": self.fence, "error": description})
        except (errors.EventsError, psycopg.Error) as failure:
            log.warning("rebuild of %s: cannot record that it ended (%s)", self.name, failure)

    def restart(self, recipe: str = "") -> None:
        """Begin from the start, in the caller's transaction. Raises `LeaseLost`."""
        if not store.query(RESTART, {"name": self.name, "fence": self.fence, "recipe": recipe}):
            raise errors.LeaseLost(TAKEN_OVER.format(self.name))
        self.phase, self.position = "building", 0

    @contextmanager
    def step(self, phase: str, position: int, events: int = 0, target: int = 0, unreadable: int = 0) -> Iterator[None]:
        """A transaction under our fence that ends at this phase and position; raises `LeaseLost`."""
        with self.fenced(phase, position, events, target, unreadable):
            yield
        self.report_progress(self.seen())

    @contextmanager
    def fenced(
        self, phase: str, position: int, events: int = 0, target: int = 0, unreadable: int = 0
    ) -> Iterator[None]:
        """`step` without reporting progress: a callback may be slow, and the caller may hold locks."""
        now = {"phase": phase, "position": position, "events": events, "target": target, "unreadable": unreadable}
        with transaction.atomic():
            if not store.query(ADVANCE, {"name": self.name, "fence": self.fence, **now}):
                raise errors.LeaseLost(TAKEN_OVER.format(self.name))
            yield
        self.phase, self.position = phase, position

    def seen(self) -> RebuildProgress:
        return next(one for one in read_tables.progress() if one.name == self.name)
