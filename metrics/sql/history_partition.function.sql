-- Create one partition of a history table unless it exists; returns 1 when it is new.
create function metrics_history_partition(p_table text, p_suffix text, p_from text, p_to text) returns int
language plpgsql as $$
declare
    v_name text := p_table || '_p' || p_suffix;
begin
    if to_regclass(quote_ident(v_name)) is not null then
        return 0;
    end if;
    execute format('create table %I partition of %I for values from (%L) to (%L)', v_name, p_table, p_from, p_to);
    return 1;
end $$;
