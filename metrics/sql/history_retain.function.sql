-- Drop the oldest partition of a history table if all of it is older than p_keep and the tier above has it. One at a
-- time: a clock that is wrong for an hour then costs one partition and not the history. Returns its name, or NULL.
--
-- Where the application owns no table it runs this with the owner's privileges, so the tables and the shortest times
-- are fixed here.
create function metrics_history_retain(p_table text, p_keep interval) returns text language plpgsql as $$
declare
    v_name text;
    v_end timestamptz;
    v_done timestamptz := 'infinity';
    v_span interval;
begin
    v_span := case p_table when 'metrics_sample' then interval '1 day'
                           when 'metrics_minute' then interval '1 month'
                           when 'metrics_histogram' then interval '1 month'
                           when 'metrics_hour' then interval '1 year'
                           when 'metrics_histogram_hour' then interval '1 year' end;
    if v_span is null or p_keep < interval '1 day' then
        raise exception 'metrics_history_retain: not a table of the history, or less than a day: %, %', p_table, p_keep;
    end if;
    select c.relname, (to_timestamp(right(c.relname, 8), 'YYYYMMDD')::timestamp + v_span) at time zone 'UTC'
      into v_name, v_end
      from pg_inherits i join pg_class c on c.oid = i.inhrelid
     where i.inhparent = to_regclass(p_table) order by right(c.relname, 8) limit 1;
    if p_table in ('metrics_sample', 'metrics_minute', 'metrics_histogram') then
        select upto into v_done from metrics_rollup
         where tier = case p_table when 'metrics_sample' then 'minute' else 'hour' end;
    end if;
    if v_end is null or v_end > clock_timestamp() - p_keep or v_done is null or v_end > v_done then
        return null;
    end if;
    set local lock_timeout = '2s';
    execute format('drop table %I', v_name);
    return v_name;
end $$;
