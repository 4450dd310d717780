-- Make a table of events_partition_table a partition of the log. Statement triggers fire only on the table that a
-- statement names, so a partition needs its own refusals.
create or replace function events_partition_attach(p_name text, p_low bigint, p_high bigint)
returns void language plpgsql as $$
begin
    execute format('create trigger no_truncate before truncate on %I '
                   'for each statement execute function events_refuse()', p_name);
    execute format('create trigger through_the_log before insert on %I '
                   'for each statement execute function events_refuse()', p_name);
    execute format('alter table %I enable always trigger no_truncate', p_name);
    execute format('alter table %I enable always trigger through_the_log', p_name);
    execute format('alter table events_event attach partition %I for values from (%s) to (%s)', p_name, p_low, p_high);
end $$;
