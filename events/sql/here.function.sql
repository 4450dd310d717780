-- True, or an error when positions after p_after were archived. In the WHERE of every read by position it is evaluated
-- once, even without rows, in the snapshot of the rows: so no reader skips a range that has just been archived.
create function events_here(p_after bigint) returns boolean language plpgsql stable as $$
declare
    v_upto bigint;
begin
    select max(high) - 1 into v_upto from events_archive where gone_at is not null;
    if v_upto > p_after then
        raise exception 'Positions up to % are archived', v_upto
            using errcode = 'ES004', constraint = 'events_archived', detail = v_upto;
    end if;
    return true;
end $$;
