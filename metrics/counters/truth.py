"""The definition of each counter: one query per table over the read tables.

A seed inserts the rows (for users: those of `seed.USERS`), a reconciliation compares them. `first` and `last` limit
users and their forms, `from_day` and `until` limit days.
"""

from __future__ import annotations

import uuid
from datetime import date, datetime
from typing import Any, Final

FORM_STATS: Final = """
select f.id as form_id, f.user_id, f.deleted_at is null as alive, coalesce(a.n, 0) as submissions, a.last_at
  from forms f
  left join (select s.form_id, count(*) as n, max(s.created_at) as last_at
               from submissions s join forms o on o.id = s.form_id
              where s.deleted_at is null and o.user_id >= %(first)s and o.user_id <= %(last)s
              group by s.form_id) a on a.form_id = f.id
 where f.user_id >= %(first)s and f.user_id <= %(last)s
"""

FORM_HOURS: Final = """
select s.form_id, date_trunc('hour', s.created_at, 'UTC') as hour, count(*) as n
  from submissions s join forms o on o.id = s.form_id
 where s.deleted_at is null and s.created_at >= %(kept_from)s and o.user_id >= %(first)s and o.user_id <= %(last)s
 group by 1, 2
"""

USER_STATS: Final = """
select coalesce(u.id, f.user_id) as user_id, case when u.id is not null then u.deleted_at is null end as alive,
       coalesce(f.form_count, 0) as form_count, coalesce(f.submission_count, 0) as submission_count,
       coalesce(f.recent, 0) as recent, f.last_at
  from (select id, deleted_at from users where id >= %(first)s and id <= %(last)s) u
  full join (
       select o.user_id, count(*) as form_count, coalesce(sum(a.n), 0)::bigint as submission_count,
              coalesce(sum(a.recent), 0)::bigint as recent, max(a.last_at) as last_at
         from forms o
         left join (select s.form_id, count(*) as n, max(s.created_at) as last_at,
                           count(*) filter (where s.created_at >= %(recent_from)s) as recent
                      from submissions s join forms p on p.id = s.form_id
                     where s.deleted_at is null and p.deleted_at is null
                       and p.user_id >= %(first)s and p.user_id <= %(last)s
                     group by s.form_id) a on a.form_id = o.id
        where o.deleted_at is null and o.user_id >= %(first)s and o.user_id <= %(last)s
        group by o.user_id) f on f.user_id = u.id
"""

# `completion_time` as text first: a cast from double to numeric would round to 15 digits.
DAY_STATS: Final = """
select day, coalesce(u.n, 0) as users_created, coalesce(f.n, 0) as forms_created,
       coalesce(f.owners, 0) as unique_users, coalesce(s.n, 0) as submissions, coalesce(s.timed, 0) as timed,
       coalesce(s.seconds, 0) as seconds
  from (select (created_at at time zone 'UTC')::date as day, count(*) as n from users
         where created_at >= %(from_day)s and created_at < %(until)s group by 1) u
  full join (select (created_at at time zone 'UTC')::date as day, count(*) as n, count(distinct user_id) as owners
               from forms where created_at >= %(from_day)s and created_at < %(until)s group by 1) f using (day)
  full join (select (created_at at time zone 'UTC')::date as day, count(*) as n, count(completion_time) as timed,
                    sum(completion_time::text::numeric) as seconds from submissions
              where deleted_at is null and created_at >= %(from_day)s and created_at < %(until)s group by 1) s
       using (day)
"""

DAY_OWNERS: Final = """
select distinct (created_at at time zone 'UTC')::date as day, user_id from forms
 where created_at >= %(from_day)s and created_at < %(until)s
"""

# Table -> (columns, query)
QUERIES: Final = {
    "metrics_form_stats": ("form_id, user_id, alive, submissions, last_at", FORM_STATS),
    "metrics_form_hours": ("form_id, hour, n", FORM_HOURS),
    "metrics_user_stats": ("user_id, alive, form_count, submission_count, recent, last_at", USER_STATS),
    "metrics_day_stats": (
        "day, users_created, forms_created, unique_users, submissions, timed, seconds",
        DAY_STATS,
    ),
    "metrics_day_owners": ("day, user_id", DAY_OWNERS),
}
TABLES: Final = tuple(QUERIES)

# Every table that has to stay in place while numbers are computed or compared in one snapshot.
STILL: Final = (*TABLES, "users", "forms", "submissions")

TOTALS: Final = """
select count(*) filter (where alive), coalesce(sum(form_count), 0)::bigint, coalesce(sum(submission_count), 0)::bigint
  from {table}
"""

FIRST: Final = uuid.UUID(int=0)
LAST: Final = uuid.UUID(int=2**128 - 1)


def bounds(
    windows: tuple[datetime, datetime],
    users: tuple[uuid.UUID, uuid.UUID] = (FIRST, LAST),
    days: tuple[date, date] | None = None,
) -> dict[str, Any]:
    """Parameters of the queries; `days` is a half-open range of midnights, None for all."""
    return {
        "recent_from": windows[0],
        "kept_from": windows[1],
        "first": users[0],
        "last": users[1],
        "from_day": f"{days[0]} 00:00Z" if days else "-infinity",
        "until": f"{days[1]} 00:00Z" if days else "infinity",
    }
