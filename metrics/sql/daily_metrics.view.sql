-- A concurrent refresh needs a unique index on plain columns. Without data: `refresh_views` fills it.
create materialized view mv_daily_metrics as select * from metrics_daily() with no data;
create unique index mv_daily_metrics_key on mv_daily_metrics (day);
