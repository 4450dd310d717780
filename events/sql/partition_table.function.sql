-- A table for positions that is not yet part of the log: the gates of a partition. Its refusals come when it is filled.
-- Ciphertext cannot be compressed, and whoever reads the log reads all of it: up to 4 kB an event stays in its row, where
-- PostgreSQL would try both at 2 kB, at a tenth of what it does for an event of that size.
create or replace function events_partition_table(p_name text) returns void language plpgsql as $$
begin
    execute format('create table %I (like events_event including defaults including constraints including storage) '
                   'with (toast_tuple_target = 4080)', p_name);
    execute format('create unique index %I on %I (stream, version)', p_name || '_version', p_name);
    execute format('create unique index %I on %I (event_id)', p_name || '_event_id', p_name);
end $$;
