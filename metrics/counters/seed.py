"""Computes the counters from the read tables by SQL, without locks and without replaying the log.

    1  H := the safe head, in a statement of its own
    2  one REPEATABLE READ transaction: the rows of each table (`truth`), and X: the visible positions above H
    3  in one transaction: rows in place, checkpoint = H, positions to skip = X, nothing parked

Read tables change in the transaction that appends the event, so the snapshot of step 2 contains exactly the effects of
the events it sees: all up to H, because the head is safe, and those of X. The handler then drops X and folds the rest:
each event counts once. docs/read-side.md shows that X is needed.

`start` is step 3 in place, for tables that nobody reads yet or whose history was rewound. `build` fills copies beside
the live tables and swaps them, so that readers never see zeros.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import psycopg
from django.db import transaction

from events import errors, head, store
from events.db import arrays, driver_errors
from events.rebuild import builder, read_tables, shadow_table
from events.rebuild.claim import Claim
from metrics.counters import applying, truth
from metrics.counters.applying import NAME

Windows = tuple[datetime, datetime]

# The bounds select all rows or few, which a generic plan cannot know; nothing here may be cancelled half-way by a limit
# meant for pages.
SETTINGS: Final = """
select set_config('plan_cache_mode', 'force_custom_plan', true), set_config('statement_timeout', '0', true),
       set_config('work_mem', '64MB', true)
"""

ABOVE: Final = "select position from events_event where position > %s"

# -- 3 ----------------------------------------------------------------------------------------------------------------

STATE: Final = """
update metrics_counters_state
   set recent_from = %s, kept_from = %s, user_count = %s, form_count = %s, submission_count = %s, seeded_position = %s,
       seeded_at = clock_timestamp()
"""

EMPTY_SKIPPED: Final = "delete from metrics_counters_skip"

SKIP: Final = "insert into metrics_counters_skip (position) select unnest(%s::bigint[])"

# Their effect is in the read tables, or they are above the checkpoint and read again.
UNPARK: Final = "delete from events_parked where subscription = %s"

CHECKPOINT: Final = """
insert into events_checkpoint as c (name, position, epoch) values (%(name)s, %(position)s, %(epoch)s::uuid)
on conflict (name) do update
   set position = excluded.position, epoch = excluded.epoch, fence = c.fence + 1, owner = null, leased_until = null,
       updated_at = clock_timestamp(), error = null
"""

CURRENT: Final = """
select 1 from events_checkpoint
 where name = %s and epoch = %s::uuid and position <= coalesce(pg_sequence_last_value('events_position_seq'), 0)
"""


# The users' numbers are sums over the forms, whose rows this snapshot has just filled: submissions are read once less.
USERS: Final = """
select coalesce(u.id, f.user_id) as user_id, case when u.id is not null then u.deleted_at is null end as alive,
       coalesce(f.form_count, 0), coalesce(f.submission_count, 0), coalesce(f.recent, 0), f.last_at
  from users u
  full join (
       select s.user_id, count(*) as form_count, sum(s.submissions)::bigint as submission_count,
              sum(h.n)::bigint as recent, max(s.last_at) as last_at
         from {metrics_form_stats} s
         left join (select form_id, sum(n) as n from {metrics_form_hours} where hour >= %(recent_from)s
                     group by form_id) h using (form_id)
        where s.alive group by s.user_id) f on f.user_id = u.id
"""


class Snapshot:
    """The counters as of one snapshot: bounds, totals and positions above `position` that it has seen."""

    def __init__(self, targets: Mapping[str, str]) -> None:
        """Begin the snapshot: call it first in a REPEATABLE READ transaction. `targets`: table -> where its rows go."""
        self.windows = applying.windows()
        self.above: list[int] = []
        self.targets = targets

    def fill(self, position: int) -> None:
        """Step 2, in a REPEATABLE READ transaction; `position` was read before it began."""
        self.position = position
        store.query(SETTINGS)
        self.above = [row[0] for row in store.query(ABOVE, (position,))]
        wanted = truth.bounds(self.windows)
        users = {"metrics_user_stats": USERS.format_map(self.targets)}
        for table, (columns, definition) in truth.QUERIES.items():
            query = users.get(table, definition)
            store.execute(f"insert into {self.targets[table]} ({columns}) {query}", wanted)
        totals = truth.TOTALS.format(table=self.targets["metrics_user_stats"])
        self.totals: tuple[int, int, int] = store.query(totals)[0]

    def put_in_place(self, epoch: str) -> None:
        """Run step 3 except for the rows, in the caller's transaction, which has locked the state."""
        store.execute(EMPTY_SKIPPED)
        store.execute(SKIP, (arrays.Numbers(self.above),))
        store.execute(STATE, (*self.windows, *self.totals, self.position))
        store.execute(UNPARK, (NAME,))
        store.execute(CHECKPOINT, {"name": NAME, "position": self.position, "epoch": epoch})


# -- in place ---------------------------------------------------------------------------------------------------------


def start() -> None:
    """Seed the live tables, unless the checkpoint is of this history or the log is empty."""
    epoch = head.epoch()
    position = head.safe()  # 1
    if store.query(CURRENT, (NAME, epoch)) or position == 0:
        return
    with transaction.atomic():
        read_tables.one_snapshot(truth.STILL)
        store.query(read_tables.SHARE_SWAP_LOCK)
        store.query(SETTINGS)
        applying.lock()  # another process that seeds: this one fails to serialise, and finds its checkpoint
        for table in truth.TABLES:
            store.execute(f"delete from {table}")  # noqa: S608 - our own names
        snapshot = Snapshot({table: table for table in truth.TABLES})
        snapshot.fill(position)  # 2
        snapshot.put_in_place(epoch)  # 3


# -- beside the live tables -------------------------------------------------------------------------------------------


def build(claim: Claim, patience: float) -> None:
    """Build copies under the claim and swap them in; the remains of an interrupted build are discarded."""
    tables = [shadow_table.Tables(table) for table in truth.TABLES]
    if claim.phase != "swapped":
        _build(claim, tables, patience)
    for one in tables:
        for statement in one.leftovers():
            with claim.step("swapped", claim.position):
                shadow_table.run(statement)
    with claim.step("done", claim.position):
        pass
    claim.release()


def _build(claim: Claim, tables: list[shadow_table.Tables], patience: float) -> None:
    epoch, path = head.epoch(), store.query("select current_setting('search_path')")[0][0]
    with transaction.atomic():
        claim.restart()
        for one in tables:
            one.refuse_loss()
            one.make_shadow()
    position = head.safe()  # 1
    snapshot = Snapshot({one.name: one.shadow for one in tables})
    with transaction.atomic():
        read_tables.one_snapshot(truth.STILL)
        store.query(read_tables.SHARE_SWAP_LOCK)
        snapshot.fill(position)  # 2
    with claim.step("building", position, target=position):  # not around it: an erasure would wait for this row
        pass
    for one in tables:
        for statement in one.missing():
            with claim.step("indexing", position), one.shadow_first(path):
                store.execute(f"set local maintenance_work_mem = '{builder.INDEX_MEMORY}'")
                shadow_table.run(statement)
    deadline = time.monotonic() + patience
    while not _swap(claim, tables, snapshot, epoch):  # 3
        if time.monotonic() > deadline:
            raise errors.RebuildRefused(
                f"{NAME} could not be locked for the swap within {patience:g} s: a long transaction is using them. "
                "Try again."
            )
        time.sleep(builder.SWAP_PAUSE)
    claim.report_progress(claim.seen())


def _swap(claim: Claim, tables: list[shadow_table.Tables], snapshot: Snapshot, epoch: str) -> bool:
    """Swap the copies in; False when a lock was not available.

    Locks the state row first, as the handler does, so that no batch is half-way.
    """
    try:
        with transaction.atomic():
            store.execute(f"set local lock_timeout = '{builder.REFRESH_TIMEOUT}'")
            store.query(read_tables.WAIT_FOR_SWAP_LOCK)  # holds no other lock yet, so nobody waits for it
            store.execute(f"set local lock_timeout = '{builder.LOCK_TIMEOUT}'")
            applying.lock()
            keys: list[Any] = [one.lock() for one in tables]
            with claim.fenced("swapped", snapshot.position, target=snapshot.position):
                for one, found in zip(tables, keys, strict=True):
                    one.swap(found)
                snapshot.put_in_place(epoch)
    except (errors.EventsError, psycopg.Error) as error:
        if not driver_errors.is_temporary(error):
            raise
        return False
    return True
