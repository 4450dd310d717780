-- One row, updated with every batch: half of each page stays free for its next versions.
alter table metrics_counters_state set (fillfactor = 50, autovacuum_vacuum_threshold = 200);
