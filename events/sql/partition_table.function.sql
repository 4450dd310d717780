-- A table for positions that is not part of the log yet, with the unique indexes of a partition. Its refusals are
-- added when it is filled. Ciphertext cannot be compressed, and readers of the log read all of it: up to 4 kB an
-- event stays in its row. PostgreSQL would try compression and TOAST at 2 kB, which costs a tenth of its work for
-- such an event.
create or replace function events_partition_table(p_name text) returns void language plpgsql as $$
begin
    execute format('create table %I (like events_event including defaults including constraints including storage) '
                   'with (toast_tuple_target = 4080)', p_name);
    execute format('create unique index %I on %I (stream, version)', p_name || '_version', p_name);
    execute format('create unique index %I on %I (event_id)', p_name || '_event_id', p_name);
end $$;
