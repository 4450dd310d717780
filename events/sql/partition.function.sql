-- Create the partitions for positions up to p_upto, p_size positions each, with unique indexes of their own. Returns
-- the number created. Safe to call at any time and from several sessions.
create function events_partition(p_upto bigint, p_size bigint default 10000000) returns int language plpgsql as $$
declare
    v_from bigint;
    v_name text;
    v_made int := 0;
begin
    perform pg_advisory_xact_lock(hashtext('events_partition'));
    loop
        -- The upper bound of the last partition is where the next one begins.
        select coalesce(max((regexp_match(pg_get_expr(c.relpartbound, c.oid), 'TO \(''(\d+)''\)'))[1]::bigint), 1)
          into v_from
          from pg_inherits i join pg_class c on c.oid = i.inhrelid
         where i.inhparent = 'events_event'::regclass;
        exit when v_from > p_upto;
        v_name := format('events_event_p%s', lpad(v_from::text, 12, '0'));
        execute format('create table %I (like events_event including defaults including constraints '
                       'including storage)', v_name);
        execute format('create unique index %I on %I (stream, version)', v_name || '_version', v_name);
        execute format('create unique index %I on %I (event_id)', v_name || '_event_id', v_name);
        -- Statement triggers fire only on the table that was named, so a partition needs its own refusals.
        execute format('create trigger no_truncate before truncate on %I '
                       'for each statement execute function events_refuse()', v_name);
        execute format('create trigger through_the_log before insert on %I '
                       'for each statement execute function events_refuse()', v_name);
        execute format('alter table %I enable always trigger no_truncate', v_name);
        execute format('alter table %I enable always trigger through_the_log', v_name);
        execute format('alter table events_event attach partition %I for values from (%s) to (%s)',
                       v_name, v_from, v_from + p_size);
        v_made := v_made + 1;
    end loop;
    return v_made;
end $$;
