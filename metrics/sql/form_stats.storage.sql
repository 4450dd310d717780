-- Free space in each page, so that old and new version of a row are in one page although the sort indexes prevent
-- heap-only updates.
alter table metrics_form_stats set (fillfactor = 70);
