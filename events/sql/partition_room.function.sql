-- Create the partitions for positions up to p_upto, p_size positions each, with unique indexes of their own. Returns
-- the number created. Safe to call at any time and from several sessions.
create or replace function events_partition(p_upto bigint, p_size bigint default 10000000)
returns int language plpgsql as $$
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
        perform events_partition_table(v_name), events_partition_attach(v_name, v_from, v_from + p_size);
        v_made := v_made + 1;
    end loop;
    return v_made;
end $$;
