-- Create the partitions of the history for this instant and for the time after it: a day of samples, a month of
-- minutes, a year of hours. Returns how many were new. Names end in the first day of the partition, in UTC.
create function metrics_history_partitions(p_at timestamptz) returns int language plpgsql as $$
declare
    v_utc timestamp := p_at at time zone 'UTC';
    v_table text;
    v_first timestamp;
    v_made int := 0;
begin
    perform pg_advisory_xact_lock(17780, 1);
    for i in 0..1 loop
        v_first := date_trunc('day', v_utc) + i * interval '1 day';
        v_made := v_made + metrics_history_partition('metrics_sample', to_char(v_first, 'YYYYMMDD'),
            ((extract(epoch from v_first) / 5)::bigint)::text, ((extract(epoch from v_first) / 5)::bigint + 17280)::text);
        v_first := date_trunc('month', v_utc) + i * interval '1 month';
        foreach v_table in array array['metrics_minute', 'metrics_histogram'] loop
            v_made := v_made + metrics_history_partition(v_table, to_char(v_first, 'YYYYMMDD'),
                v_first::text || '+00', (v_first + interval '1 month')::text || '+00');
        end loop;
        v_first := date_trunc('year', v_utc) + i * interval '1 year';
        foreach v_table in array array['metrics_hour', 'metrics_histogram_hour'] loop
            v_made := v_made + metrics_history_partition(v_table, to_char(v_first, 'YYYYMMDD'),
                v_first::text || '+00', (v_first + interval '1 year')::text || '+00');
        end loop;
    end loop;
    return v_made;
end $$;
