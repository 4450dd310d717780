-- The sort indexes prevent heap-only updates; the free space keeps old and new version in one page.
alter table metrics_user_stats set (fillfactor = 70);
