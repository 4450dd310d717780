"""Compares the counters with the read tables, to the unit, while both change.

    1  one REPEATABLE READ snapshot; C := the checkpoint in it
    2  copy the counters of the slice into temporary tables
    3  apply the handler itself to the copies, with every visible event above C and every parked one
    4  compare each number with its definition (`truth`) over the read tables of the same snapshot
    5  undo everything; store the result

Read tables change in the transaction that appends the event, so a snapshot that sees the events above C also sees their
effect: step 4 must find no difference, however far the counters are behind. A difference is stored, logged and shown by
`doctor`; it is never repaired silently, because its cause would stay. `rebuild_projection counters` repairs it.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Final, Literal, TypeAlias

import msgspec
from django.db import transaction

from events import decoding, errors, store
from events.rebuild import read_tables
from events.types import RecordedEvent
from metrics.counters import applying, folding, seed, truth
from metrics.counters.applying import NAME
from metrics.counters.models import Reconciliation, ReconciliationDifference

log = logging.getLogger(__name__)

SLICES: Final = 64
SMALLEST_SLICE: Final = 100  # users
BATCH: Final = 5_000
MOST_BEHIND: Final = 100_000  # events; the slice of a runner that is stopped waits until it runs again
MOST_DIFFERENCES: Final = 1_000
KEPT: Final = timedelta(days=30)

State: TypeAlias = Literal["clean", "different", "incomplete"]


class Difference(msgspec.Struct, frozen=True):
    """One number: `key` is `user:<id>`, `form:<id>`, `day:<date>` or `total`."""

    key: str
    field: str
    counted: str | None
    expected: str | None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one comparison; fields as in `models.Reconciliation`."""

    at: datetime
    position: int
    everything: bool
    state: State
    seconds: float
    note: str = ""
    checked: int = 0
    uncounted: int = 0
    upto: uuid.UUID | None = None
    differences: list[Difference] = []


class Incomplete(Exception):
    """Nothing can be compared; the message says why."""


# -- the slice --------------------------------------------------------------------------------------------------------

LAST: Final = "select upto from metrics_reconciliation where not everything order by id desc limit 1"

NEXT: Final = """
select user_id from metrics_user_stats where user_id > %s order by user_id
 offset greatest(%s, (select user_count from metrics_counters_state) / %s) limit 1
"""


class Slice(msgspec.Struct, frozen=True):
    """The users (with their forms) and days of one comparison; None: all."""

    first: uuid.UUID = truth.FIRST
    last: uuid.UUID = truth.LAST
    days: tuple[date, date] | None = None

    @property
    def is_everything(self) -> bool:
        return self.days is None


def next_slice() -> Slice:
    """The users after those of the last slice, and yesterday."""
    found = store.query(LAST)
    first = found[0][0] if found and found[0][0] else truth.FIRST
    following = store.query(NEXT, (first, SMALLEST_SLICE, SLICES))
    today = applying.clock().date()
    return Slice(first, following[0][0] if following else truth.LAST, (today - timedelta(days=1), today))


# -- the comparison ---------------------------------------------------------------------------------------------------

CHECKPOINT: Final = "select position from events_checkpoint where name = %s"

TRY_LOCK: Final = "select pg_try_advisory_xact_lock(17781, hashtext('reconcile counters'))"

PARKED: Final = "select position, stream from events_parked where subscription = %s order by position"

AT: Final = f"select {decoding.COLUMNS} from events_event where position = any(%s) order by position"  # noqa: S608

PATH: Final = """
select relnamespace::regnamespace::text, current_setting('search_path') from pg_class
 where oid = 'metrics_counters_state'::regclass
"""

# The rows of each table that a copy needs: those of the slice.
USERS: Final = "user_id >= %(first)s and user_id <= %(last)s"
FORMS: Final = f"select form_id from {{schema}}.metrics_form_stats where {USERS}"  # noqa: S608
COPIES: Final = {
    "metrics_counters_state": "true",
    "metrics_counters_skip": "true",
    "metrics_user_stats": USERS,
    "metrics_form_stats": f"{USERS} or (user_id is null and %(everything)s)",
    "metrics_form_hours": f"%(everything)s or form_id in ({FORMS})",
    "metrics_day_stats": "day >= %(from_day)s::date and day < %(until)s::date",
    "metrics_day_owners": "day >= %(from_day)s::date and day < %(until)s::date",
}


def reconcile(wanted: Slice | None = None) -> Outcome | None:
    """Compare one slice (None: everything) and store the result; None while another process compares."""
    wanted, begun = wanted or Slice(), time.monotonic()
    position, uncounted, checked, note = 0, 0, 0, ""
    differences: list[Difference] = []
    with transaction.atomic():
        read_tables.one_snapshot(truth.STILL)
        store.query(read_tables.SHARE_SWAP_LOCK)
        if not store.query(TRY_LOCK)[0][0]:
            return None
        store.query(seed.SETTINGS)
        try:
            position, uncounted = bring_up_to_date(wanted)  # 1, 2, 3
            checked, differences = _compare(wanted)  # 4
        except Incomplete as reason:
            note = str(reason)
        transaction.set_rollback(True)  # 5
    outcome = Outcome(
        at=applying.clock(),
        position=position,
        everything=wanted.is_everything,
        state="incomplete" if note else "different" if differences else "clean",
        seconds=time.monotonic() - begun,
        note=note,
        checked=checked,
        uncounted=uncounted,
        upto=None if wanted.last == truth.LAST else wanted.last,
        differences=differences,
    )
    _store(outcome)
    return outcome


def bring_up_to_date(wanted: Slice) -> tuple[int, int]:
    """Steps 1 to 3; returns the checkpoint and the number of parked streams. Raises `Incomplete`.

    Call it in a REPEATABLE READ transaction: its unqualified table names mean the copies from then on.
    """
    found = store.query(CHECKPOINT, (NAME,))
    if not found:
        raise Incomplete("the subscription has not run yet")
    position: int = found[0][0]
    parked = store.query(PARKED, (NAME,))
    first = _readable(decoding.events_of(store.query(AT, ([row[0] for row in parked],)))) if parked else []
    if len(first) < len(parked):
        raise Incomplete(f"{len(parked) - len(first)} parked events are in an archive: replay or skip them")
    _copy(wanted)
    handled, after = 0, position
    while True:
        try:
            events = store.read_here(after, BATCH, upto=2**62, types=folding.TYPES)
        except errors.Archived as error:
            behind = f"the events after {after:,} are in an archive"
            raise Incomplete(f"{behind}: compared when the counters follow") from error
        if events or first:
            applying.handle([*first, *_readable(events)])
        first, handled = [], handled + len(events)
        if len(events) < BATCH:
            return position, len({row[1] for row in parked})
        if handled >= MOST_BEHIND and not wanted.is_everything:
            raise Incomplete(f"the counters are more than {handled:,} events behind: compared when they follow")
        after = events[-1].position


def _copy(wanted: Slice) -> None:
    """Copies of the tables that unqualified names find first; they end with the transaction."""
    schema, path = store.query(PATH)[0]
    store.query("select set_config('search_path', %s, true)", (f"pg_temp, {path}",))
    parameters = {
        "first": wanted.first,
        "last": wanted.last,
        "everything": wanted.is_everything,
        "from_day": wanted.days[0].isoformat() if wanted.days else "-infinity",
        "until": wanted.days[1].isoformat() if wanted.days else "infinity",
    }
    for table, condition in COPIES.items():
        store.execute(f"create temporary table {table} (like {schema}.{table} including all) on commit drop")
        where = condition.format(schema=schema)
        store.execute(f"insert into pg_temp.{table} select * from {schema}.{table} where {where}", parameters)  # noqa: S608
        store.execute(f"analyze pg_temp.{table}")
    applying.lock()  # creates the state before the first event is counted


# -- unreadable events ------------------------------------------------------------------------------------------------

ROWS: Final = {
    "user.created": "select id::text, created_at, null, null from users where id = any(%s::uuid[])",
    "form.created": "select id::text, created_at, user_id::text, null from forms where id = any(%s::uuid[])",
    folding.RECEIVED: """
        select id::text, created_at, form_id::text, completion_time from submissions where id = any(%s::uuid[])
    """,
}


def _readable(events: Iterable[RecordedEvent]) -> list[RecordedEvent]:
    """The events; the data of unreadable ones come from their rows in the read tables.

    Raises `Incomplete` for an unreadable correction: only it says what the submission was before.
    """
    listed = list(events)
    unreadable = [event for event in listed if event.unreadable]
    rows: dict[tuple[str, str], Sequence[Any]] = {}
    for name, query in ROWS.items():
        if keys := [event.key for event in unreadable if event.type == name]:
            rows |= {(name, row[0]): row for row in store.query(query, (keys,))}
    return [_substitute(event, rows) if event.unreadable else event for event in listed]


def _substitute(event: RecordedEvent, rows: dict[tuple[str, str], Sequence[Any]]) -> RecordedEvent:
    if event.type == folding.CORRECTED:
        raise Incomplete(f"the correction at {event.position} cannot be read: rebuild, or skip it and rebuild")
    data: dict[str, Any] = {}
    if event.type in ROWS:
        row = rows.get((event.type, event.key))
        if row is None:
            raise Incomplete(f"the event at {event.position} cannot be read, and its record has no row")
        data = {"created_at": row[1].isoformat(), "user_id": row[2], "form_id": row[2], "completion_time": row[3]}
    return msgspec.structs.replace(event, data=data, unreadable=None)


# -- 4 ----------------------------------------------------------------------------------------------------------------

OF_DAYS: Final = "day >= %(from_day)s::timestamptz::date and day < %(until)s::timestamptz::date"

# Table -> (key, numbers, the compared rows of the copy)
COMPARED: Final = {
    "metrics_user_stats": ("user", "user_id", ("alive", "form_count", "submission_count", "recent", "last_at"), USERS),
    "metrics_form_stats": ("form", "form_id", ("user_id", "alive", "submissions", "last_at"), USERS),
    "metrics_form_hours": (
        "form",
        "form_id, hour",
        ("n",),
        f"form_id in ({FORMS.format(schema='pg_temp')})",
    ),
    "metrics_day_stats": (
        "day",
        "day",
        ("users_created", "forms_created", "unique_users", "submissions", "timed", "seconds"),
        "",
    ),
    "metrics_day_owners": ("day", "day, user_id", ("user_id",), ""),
}

DIFFERENCES: Final = """
select {key}, {field}, v.counted, v.expected
  from (select * from {table} where {rows}) c
  full join ({query}) t using ({columns})
 cross join lateral (values {values}) as v(field, counted, expected, differs)
 where v.differs order by 1, 2 limit {most}
"""

COUNTS: Final = """
select (select count(*) from metrics_user_stats where user_id >= %(first)s and user_id <= %(last)s)
     + (select count(*) from metrics_form_stats where user_id >= %(first)s and user_id <= %(last)s)
     + (select count(*) from metrics_day_stats where {days})
"""

STATE: Final = """
select recent_from, kept_from, user_count, form_count, submission_count from metrics_counters_state
"""

TOTAL_FIELDS: Final = ("user_count", "form_count", "submission_count")

TRUE_TOTALS: Final = """
select (select count(*) from users where deleted_at is null),
       (select count(*) from forms where deleted_at is null),
       (select count(*) from submissions s join forms f on f.id = s.form_id
         where s.deleted_at is null and f.deleted_at is null)
"""

# A missing row has the numbers 0; a zero in `metrics_form_hours` and a day without anything are no difference.
ZERO: Final = {"form_count", "submission_count", "recent", "submissions", "n", "users_created", "forms_created"} | {
    "unique_users",
    "timed",
    "seconds",
}


def _compare(wanted: Slice) -> tuple[int, list[Difference]]:
    """Step 4; returns how many users, forms and days were compared, and the differences."""
    recent_from, kept_from, *totals = store.query(STATE)[0]
    bounds = truth.bounds((recent_from, kept_from), (wanted.first, wanted.last), wanted.days)
    days = OF_DAYS if wanted.days else "true"
    found: list[Difference] = []
    for table, (kind, columns, names, rows) in COMPARED.items():
        keys = columns.split(", ")
        key, more = keys[0], keys[1:]
        suffix = "".join(f" || ' ' || {name}" for name in more)
        statement = DIFFERENCES.format(
            key=f"'{kind}:' || {key}",
            field=f"v.field{suffix}",
            table=table,
            rows=rows or days,
            query=truth.QUERIES[table][1],
            columns=columns,
            values=", ".join(_pair(name, keys) for name in names),
            most=MOST_DIFFERENCES,
        )
        found += [Difference(*row) for row in store.query(statement, bounds)]
    if wanted.is_everything:
        expected = store.query(TRUE_TOTALS)[0]
        for name, mine, other in zip(TOTAL_FIELDS, totals, expected, strict=True):
            if mine != other:
                found.append(Difference("total", name, str(mine), str(other)))
    return store.query(COUNTS.format(days=days), bounds)[0][0], found[:MOST_DIFFERENCES]


def _pair(name: str, keys: Sequence[str]) -> str:
    """One number on both sides, as a row for `values`."""
    if name in keys:  # the row is all there is
        sides = ", ".join(f"case when {side} is not null then 'yes' end" for side in "ct")
        return f"('{name}', {sides}, (c is null) <> (t is null))"
    mine, other = (f"coalesce({side}.{name}, 0)" if name in ZERO else f"{side}.{name}" for side in "ct")
    return f"('{name}', {mine}::text, {other}::text, {mine} is distinct from {other})"


# The latest result with its age in seconds; how many found a difference since the last seed and the last clean
# comparison of everything; and whether hours were dropped too early, by a clock that was ahead.
LATEST: Final = f"""
select r.state, r.at, r.note, r.uncounted, extract(epoch from clock_timestamp() - r.at)::float,
       (select count(*) from metrics_reconciliation d
         where d.state = 'different' and d.at > all (
               select seeded_at from metrics_counters_state where seeded_at is not null
               union all select at from metrics_reconciliation where everything and state = 'clean')),
       exists (select 1 from metrics_counters_state
                where kept_from > clock_timestamp() - interval '{applying.KEPT_DAYS - 2} days')
  from metrics_reconciliation r order by r.id desc limit 1
"""  # noqa: S608 - a constant

# -- 5 ----------------------------------------------------------------------------------------------------------------


@transaction.atomic
def _store(outcome: Outcome) -> None:
    stored = Reconciliation.objects.create(
        at=outcome.at,
        position=outcome.position,
        everything=outcome.everything,
        state=outcome.state,
        note=outcome.note,
        upto=outcome.upto,
        checked=outcome.checked,
        uncounted=outcome.uncounted,
        seconds=outcome.seconds,
    )
    ReconciliationDifference.objects.bulk_create(
        ReconciliationDifference(reconciliation=stored, **msgspec.structs.asdict(one)) for one in outcome.differences
    )
    old = outcome.at - KEPT
    Reconciliation.objects.filter(at__lt=old).exclude(pk=stored.pk).delete()
    for one in outcome.differences:
        log.error(
            "counters at %d: %s %s is %s, should be %s",
            outcome.position,
            one.key,
            one.field,
            one.counted,
            one.expected,
        )
