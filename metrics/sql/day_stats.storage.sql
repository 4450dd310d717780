-- Few rows, updated with every batch.
alter table metrics_day_stats set (fillfactor = 50, autovacuum_vacuum_threshold = 200);
