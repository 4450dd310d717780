-- The rows of mv_user_analytics: users who are not deleted, by plan and by UTC month of sign-up.
--
-- active_30d counts users whose last login is on one of the last 30 UTC days or today. So the result changes only with
-- the data and with the day, and a refresh on the same day may be skipped when no event was recorded. The counts of
-- forms and submissions come from the counters. Why this is a function: daily_metrics.function.sql.
create function metrics_user_analytics() returns table (
    plan text, signup_month date, users bigint, active_30d bigint, with_forms bigint, with_submissions bigint,
    forms bigint, submissions bigint
) language plpgsql stable set search_path from current as $$
#variable_conflict use_column
begin
    return query
    select u.plan::text, date_trunc('month', u.created_at at time zone 'UTC')::date, count(*),
           count(*) filter (
               where u.last_login >= ((now() at time zone 'UTC')::date - 30)::timestamp at time zone 'UTC'),
           count(*) filter (where c.form_count > 0), count(*) filter (where c.submission_count > 0),
           coalesce(sum(c.form_count), 0)::bigint, coalesce(sum(c.submission_count), 0)::bigint
      from users u left join metrics_user_stats c on c.user_id = u.id
     where u.deleted_at is null
     group by 1, 2;
end $$;
