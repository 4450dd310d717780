-- A table for positions that is not yet part of the log: the gates of a partition. Its refusals come when it is filled.
create or replace function events_partition_table(p_name text) returns void language plpgsql as $$
begin
    execute format('create table %I (like events_event including defaults including constraints including storage)', p_name);
    execute format('create unique index %I on %I (stream, version)', p_name || '_version', p_name);
    execute format('create unique index %I on %I (event_id)', p_name || '_event_id', p_name);
end $$;
