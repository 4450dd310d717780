-- Free space in each page, so that an update stays in its page and needs no new index entries.
alter table metrics_form_stats set (fillfactor = 70);
