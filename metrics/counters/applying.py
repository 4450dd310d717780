"""Applies a batch of events to the counters, in the runner's transaction; moves the windows.

    1  lock    the one state row: handler, sweep and swap run one after the other
    2  drop    events that the seed has counted already
    3  facts   those that corrections and deletions replace
    4  fold    the batch into deltas
    5  apply   users, hours, forms with their owners, days, totals: a constant number of statements

The handler reads its own tables and two things outside: facts of submissions that cannot change any more (`facts`), and
for a form whose last submission was removed the last one that is left. The second is read ahead of the checkpoint, and
still converges: docs/read-side.md has the proof.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from events import errors, store
from events.db import arrays, pipeline
from events.types import RecordedEvent
from metrics.counters import folding
from metrics.counters.folding import Deltas, Facts

RECENT: Final = timedelta(days=30)
KEPT_DAYS: Final = 90  # today and the 89 days before

NAME: Final = "counters"

# -- 1 and 2 ----------------------------------------------------------------------------------------------------------

BEGIN: Final = """
insert into metrics_counters_state (recent_from, kept_from) values (%s, %s) on conflict do nothing
"""

LOCK: Final = "select recent_from, kept_from from metrics_counters_state for update"

SKIPPED: Final = """
select array(select position from metrics_counters_skip where position = any(%(positions)s)),
       (select max(position) from metrics_counters_skip) <= %(last)s
"""

# A parked event of them is replayed later, so its position stays.
FORGET: Final = """
delete from metrics_counters_skip s
 where not exists (select 1 from events_parked p where p.subscription = %s and p.position = s.position)
"""


class Changed(msgspec.Struct, frozen=True):
    """Keys of the users and forms whose counters a batch may have changed; `days`: figures of days changed too."""

    users: frozenset[str] = frozenset()
    forms: frozenset[str] = frozenset()
    days: bool = False


def handle(events: Sequence[RecordedEvent]) -> Changed:
    """Apply a batch, in the transaction that moves the checkpoint."""
    recent_from, kept_from = lock()  # 1
    counted, passed = _skipped(events)  # 2
    fresh = [event for event in events if event.position not in counted] if counted else events
    before = facts(fresh)  # 3
    changed = apply(folding.fold(fresh, before, recent_from, kept_from))  # 4, 5
    if passed:
        store.execute(FORGET, (NAME,))
    return changed


def lock() -> tuple[datetime, datetime]:
    """Lock the state row until the end of the transaction; returns `recent_from` and `kept_from`."""
    found = store.query(LOCK)
    if not found:
        store.execute(BEGIN, windows())
        found = store.query(LOCK)
    return found[0][0], found[0][1]


def windows(now: datetime | None = None) -> tuple[datetime, datetime]:
    """(`recent_from`, `kept_from`) as they should be now, by the database's clock: those of runners may differ."""
    hour = folding.full_hour(now or clock())
    return hour - RECENT, hour.replace(hour=0) - timedelta(days=KEPT_DAYS - 1)


CLOCK: Final = "select clock_timestamp()"


def clock() -> datetime:
    """The time by the database's clock, in UTC."""
    now: datetime = store.query(CLOCK)[0][0]
    return now.astimezone(UTC)


def _skipped(events: Sequence[RecordedEvent]) -> tuple[set[int], bool]:
    """Positions of the batch that the seed has counted, and True when the batch reaches the last such position."""
    positions = [event.position for event in events]
    row = store.query(SKIPPED, {"positions": arrays.Numbers(positions), "last": max(positions)})[0]
    return set(row[0]), bool(row[1])


# -- 3 ----------------------------------------------------------------------------------------------------------------

# A deleted submission cannot be corrected or restored any more: these columns are final.
FINAL: Final = """
select id, form_id::text, created_at, completion_time from submissions where id = any(%s::uuid[])
   and deleted_at is not null
"""


def facts(events: Iterable[RecordedEvent]) -> dict[int, Facts]:
    """The facts that each correction and deletion replaces, by position.

    Those of a deleted submission are final columns of its row. Those before a correction are only in the log, which
    does not change either. Raises `UnreadableEvent` where an earlier event that is needed cannot be read.
    """
    wanted = [event for event in events if folding.replaces_facts(event)]
    if not wanted:
        return {}
    deleted = [event for event in wanted if event.type == folding.DELETED]
    found: dict[int, Facts] = {}
    if deleted:
        rows = {str(row[0]): row for row in store.query(FINAL, ([event.key for event in deleted],))}
        for event in deleted:
            if row := rows.get(event.key):
                found[event.position] = Facts(row[1], row[2].astimezone(UTC), folding.seconds(row[3]))
    rest = [event for event in wanted if event.position not in found]
    if rest:
        history: dict[str, list[RecordedEvent]] = {}
        for event in store.read_streams(list({event.stream for event in rest})):
            history.setdefault(event.stream, []).append(event)
        for event in rest:
            found[event.position] = _facts_before(event, history.get(event.stream, []))
    return found


def _facts_before(event: RecordedEvent, history: list[RecordedEvent]) -> Facts:
    """The facts of a submission before this event, folded from its history."""
    if not history or history[0].version > 1:
        history = store.read_stream(event.stream, upto=event.version - 1)  # begins in an archive
    known: Facts | None = None
    for earlier in history:
        if earlier.version >= event.version:
            break
        if earlier.unreadable:
            raise errors.UnreadableEvent(earlier.unreadable, earlier.stream, earlier.version, earlier.position)
        if earlier.type == folding.RECEIVED:
            known = folding.facts_of(earlier.data)
        elif earlier.type == folding.CORRECTED and known is not None:
            known = known.corrected(earlier.data)
    if known is None:
        raise errors.UnreadableEvent("not_json", event.stream, 1)
    return known


# -- 5 ----------------------------------------------------------------------------------------------------------------

USERS: Final = """
with d as materialized (select * from jsonb_to_recordset(%s::jsonb) as d(user_id uuid, alive boolean)),
before as materialized (select u.user_id, u.alive from metrics_user_stats u join d using (user_id)),
changed as (
    insert into metrics_user_stats as u (user_id, alive) select user_id, alive from d
    on conflict (user_id) do update set alive = excluded.alive where u.alive is distinct from excluded.alive)
select coalesce(sum(d.alive::int - coalesce(b.alive, false)::int), 0)::bigint from d left join before b using (user_id)
"""

HOURS: Final = """
insert into metrics_form_hours as h (form_id, hour, n)
select form_id, hour, n from jsonb_to_recordset(%s::jsonb) as d(form_id uuid, hour timestamptz, n bigint)
on conflict (form_id, hour) do update set n = h.n + excluded.n
"""

# A form counts for its owner while it is alive and the owner is known. An owner in `lowered` lost the last submission.
FORMS: Final = """
with d as materialized (
    select * from jsonb_to_recordset(%(forms)s::jsonb) as d(form_id uuid, user_id uuid, alive boolean, n bigint,
           recent bigint, last_at timestamptz, removed timestamptz[])
), before as materialized (
    select s.* from metrics_form_stats s join d using (form_id)
), after as materialized (
    select d.form_id, coalesce(b.user_id, d.user_id) as user_id, coalesce(d.alive, b.alive, true) as alive,
           coalesce(b.submissions, 0) as submissions_before, coalesce(b.submissions, 0) + d.n as submissions,
           b.last_at as last_before,
           case when greatest(b.last_at, d.last_at) = any(d.removed)
                then (select s.created_at from submissions s where s.form_id = d.form_id and s.deleted_at is null
                       order by s.created_at desc, s.id desc limit 1)
                else greatest(b.last_at, d.last_at) end as last_at,
           coalesce(b.alive, false) and b.user_id is not null as counted_before,
           coalesce(d.alive, b.alive, true) and coalesce(b.user_id, d.user_id) is not null as counted,
           d.recent, b.form_id is null as is_new
      from d left join before b using (form_id)
), updated as (
    update metrics_form_stats s
       set user_id = a.user_id, alive = a.alive, submissions = a.submissions, last_at = a.last_at
      from after a where s.form_id = a.form_id
), inserted as (
    insert into metrics_form_stats (form_id, user_id, alive, submissions, last_at)
    select form_id, user_id, alive, submissions, last_at from after where is_new
), moved as (
    select a.*, case when a.counted_before <> a.counted then (
               select coalesce(sum(h.n), 0) from metrics_form_hours h
                where h.form_id = a.form_id and h.hour >= %(recent_from)s) end as recent_after
      from after a where a.counted or a.counted_before
), owners as materialized (
    select user_id, sum(counted::int - counted_before::int)::bigint as forms,
           sum(case when counted then submissions else 0 end
               - case when counted_before then submissions_before else 0 end)::bigint as submissions,
           sum(case when counted and counted_before then recent when counted then recent_after
                    else recent - recent_after end)::bigint as recent,
           max(last_at) filter (where counted) as last_at,
           bool_or(counted_before and last_before is not null
                   and (not counted or last_at is null or last_at < last_before)) as lowered
      from moved group by user_id
), changed as (
    insert into metrics_user_stats as u (user_id, form_count, submission_count, recent, last_at)
    select user_id, forms, submissions, recent, last_at from owners
    on conflict (user_id) do update
       set form_count = u.form_count + excluded.form_count, recent = u.recent + excluded.recent,
           submission_count = u.submission_count + excluded.submission_count,
           last_at = greatest(u.last_at, excluded.last_at)
)
select coalesce(sum(forms), 0)::bigint, coalesce(sum(submissions), 0)::bigint,
       coalesce(array_agg(user_id) filter (where lowered), '{}'), coalesce(array_agg(user_id), '{}') from owners
"""

LOWERED: Final = """
update metrics_user_stats u
   set last_at = (select max(s.last_at) from metrics_form_stats s where s.user_id = u.user_id and s.alive)
 where u.user_id = any(%s)
"""

DAYS: Final = """
with d as materialized (
    select * from jsonb_to_recordset(%(days)s::jsonb) as d(day date, users_created bigint, forms_created bigint,
           submissions bigint, timed bigint, seconds numeric)
), owners as (
    insert into metrics_day_owners (day, user_id)
    select day, user_id from jsonb_to_recordset(%(owners)s::jsonb) as o(day date, user_id uuid)
    on conflict do nothing returning day
)
insert into metrics_day_stats as s (day, users_created, forms_created, unique_users, submissions, timed, seconds)
select day, users_created, forms_created, (select count(*) from owners where owners.day = d.day), submissions, timed,
       seconds from d
on conflict (day) do update
   set users_created = s.users_created + excluded.users_created, forms_created = s.forms_created
       + excluded.forms_created, unique_users = s.unique_users + excluded.unique_users,
       submissions = s.submissions + excluded.submissions, timed = s.timed + excluded.timed,
       seconds = s.seconds + excluded.seconds
"""

TOTALS: Final = """
update metrics_counters_state
   set user_count = user_count + %s, form_count = form_count + %s, submission_count = submission_count + %s
"""


def apply(deltas: Deltas) -> Changed:
    """Step 5: write the deltas, with at most six statements however many events there were."""
    users = forms = submissions = 0
    owners_of_forms: list[uuid.UUID] = []
    if deltas.users:
        rows = [{"user_id": key, "alive": alive} for key, alive in deltas.users.items()]
        users = store.query(USERS, (_json(rows),))[0][0]
    if hours := [{"form_id": key, "hour": hour, "n": n} for (key, hour), n in deltas.hours.items() if n]:
        store.execute(HOURS, (_json(hours),))
    if deltas.forms:
        changed = {"forms": _json(_forms(deltas)), "recent_from": deltas.recent_from}
        forms, submissions, lowered, owners_of_forms = store.query(FORMS, changed)[0]
        if lowered:
            store.execute(LOWERED, (arrays.Uuids(lowered),))
    if deltas.days:
        days = [{"day": day, **msgspec.structs.asdict(delta)} for day, delta in deltas.days.items()]
        owners = [{"day": day, "user_id": key} for day, key in deltas.owners]
        store.execute(DAYS, {"days": _json(days), "owners": _json(owners)})
    if users or forms or submissions:
        store.execute(TOTALS, (users, forms, submissions))
    return Changed(
        users=frozenset(deltas.users) | {str(key) for key in owners_of_forms},
        forms=frozenset(deltas.forms),
        days=bool(deltas.days),
    )


def _forms(deltas: Deltas) -> list[dict[str, Any]]:
    return [
        {
            "form_id": key,
            "user_id": one.user_id,
            "alive": one.alive,
            "n": one.submissions,
            "recent": one.recent,
            "last_at": one.last_at,
            "removed": list(one.removed),
        }
        for key, one in deltas.forms.items()
    ]


def _json(rows: list[dict[str, Any]]) -> str:
    return _ENCODER.encode(rows).decode()


_ENCODER: Final = msgspec.json.Encoder(decimal_format="string")

# -- the moving windows -----------------------------------------------------------------------------------------------

MOVED: Final = """
update metrics_user_stats u set recent = u.recent + %(sign)s * moved.n
  from (select s.user_id, sum(h.n)::bigint as n from metrics_form_hours h join metrics_form_stats s using (form_id)
         where h.hour >= %(first)s and h.hour < %(end)s and s.alive and s.user_id is not null
         group by s.user_id) moved
 where u.user_id = moved.user_id
"""

DROP: Final = "delete from metrics_form_hours where hour < %s"

MOVE: Final = "update metrics_counters_state set recent_from = %s, kept_from = %s"

BOUNDS: Final = "select recent_from, kept_from from metrics_counters_state"


def is_due() -> bool:
    """True when the windows are not where they should be now."""
    found = store.query(BOUNDS)
    return bool(found) and tuple(found[0]) != _reachable(found[0][1])


STEP_ROWS: Final = 100_000

# The hour before which, or after which, there are `most` rows.
STEP: Final = """
select hour from metrics_form_hours where hour >= %(first)s and hour < %(end)s
 order by hour {direction} offset %(most)s limit 1
"""


def sweep(now: datetime | None = None, seconds: float | None = None) -> bool:
    """Move the windows to where they should be now. May run anywhere and any number of times.

    Each step is a transaction of about `STEP_ROWS` rows, after which counts and windows agree. With `seconds` no step
    begins after that time; returns False when steps remain.

    Where the clock was ahead, the recent window moves back and is exact again. It moves back no further than the hours
    that are kept: those that were dropped come back with a rebuild only, for which `doctor` asks.
    """
    deadline = time.monotonic() + seconds if seconds is not None else None
    while not _step(now):
        if deadline is not None and time.monotonic() >= deadline:
            return False
    return True


def _step(now: datetime | None) -> bool:
    """Move one bound by one step; True when both were where they should be."""
    with pipeline.transaction():
        recent_from, kept_from = lock()
        recent_now, kept_now = _reachable(kept_from, now)
        if recent_from < recent_now:
            bound = _step_end(recent_from, recent_now)
            store.execute(MOVED, {"sign": -1, "first": recent_from, "end": bound})
            store.execute(MOVE, (bound, kept_from))
        elif recent_from > recent_now:
            bound = _step_end(recent_now, recent_from, backwards=True)
            store.execute(MOVED, {"sign": 1, "first": bound, "end": recent_from})
            store.execute(MOVE, (bound, kept_from))
        elif kept_from < kept_now:
            bound = _step_end(kept_from, kept_now)
            store.execute(DROP, (bound,))
            store.execute(MOVE, (recent_from, bound))
        else:
            return True
    return False


def _step_end(first: datetime, end: datetime, *, backwards: bool = False) -> datetime:
    """The hour up to which one step moves a bound from `first` to `end`; backwards from `end` to `first`."""
    statement = STEP.format(direction="desc" if backwards else "asc")
    found = store.query(statement, {"first": first, "end": end, "most": STEP_ROWS})
    hour = timedelta(hours=1)
    if not found:
        return first if backwards else end
    reached: datetime = found[0][0]
    return min(reached + hour, end - hour) if backwards else max(reached, first + hour)


def _reachable(kept_from: datetime, now: datetime | None = None) -> tuple[datetime, datetime]:
    """`windows` without the hours before `kept_from`, which are not kept."""
    recent_now, kept_now = windows(now)
    kept_now = max(kept_from, kept_now)
    return max(recent_now, kept_now), kept_now
