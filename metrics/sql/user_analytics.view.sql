-- A concurrent refresh needs a unique index on plain columns. Without data: `refresh_views` fills it.
create materialized view mv_user_analytics as select * from metrics_user_analytics() with no data;
create unique index mv_user_analytics_key on mv_user_analytics (plan, signup_month);
