-- The rows of mv_daily_metrics: one for each of the last 90 UTC days, today included, also for days without records.
--
-- A function, because a view pins the tables and columns that it names: a rebuild could not swap a read table without
-- recreating the view, and a migration could not change a column. PostgreSQL looks up the names in this body at each
-- call. No expression depends on the time zone of the session. The bounds are written in full, because the planner
-- estimates a range of now() well, and a range of variables badly.
--
-- Forms count on the day of their creation whatever becomes of them; deleted submissions do not count, erased ones do.
-- premium_forms counts forms whose owner has the plan premium now, not at the creation of the form.
-- The text of a float is its shortest exact one; a cast to numeric would round it to 15 digits.
create function metrics_daily() returns table (
    day date, total_forms bigint, unique_users bigint, premium_forms bigint, submissions bigint, timed bigint,
    seconds numeric
) language plpgsql stable set search_path from current set work_mem = '32MB' as $$
#variable_conflict use_column
begin
    return query
    with owner as (
        select (created_at at time zone 'UTC')::date as day, user_id, count(*) as n
          from forms
         where created_at >= ((now() at time zone 'UTC')::date - 89)::timestamp at time zone 'UTC'
           and created_at < ((now() at time zone 'UTC')::date + 1)::timestamp at time zone 'UTC'
         group by 1, 2
    ), form as (
        select o.day, sum(o.n)::bigint as total, count(*) as owners,
               coalesce(sum(o.n) filter (where p.id is not null), 0)::bigint as premium
          from owner o left join (select id from users where plan = 'premium') p on p.id = o.user_id
         group by o.day
    ), submission as (
        select (created_at at time zone 'UTC')::date as day, count(*) as total, count(completion_time) as timed,
               sum(completion_time::text::numeric) as seconds
          from submissions
         where deleted_at is null
           and created_at >= ((now() at time zone 'UTC')::date - 89)::timestamp at time zone 'UTC'
           and created_at < ((now() at time zone 'UTC')::date + 1)::timestamp at time zone 'UTC'
         group by 1
    )
    select d.day, coalesce(f.total, 0), coalesce(f.owners, 0), coalesce(f.premium, 0), coalesce(s.total, 0),
           coalesce(s.timed, 0), coalesce(s.seconds, 0)
      from (select (now() at time zone 'UTC')::date - n as day from generate_series(0, 89) n) d
      left join form f on f.day = d.day
      left join submission s on s.day = d.day;
end $$;
