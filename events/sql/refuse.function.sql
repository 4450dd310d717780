-- Refuse changes of stored events, with one message and the constraint name that Python maps to errors.AppendOnly.
create function events_refuse() returns trigger language plpgsql as $$
begin
    raise exception 'Stored events are append-only: % on % is refused', tg_op, tg_table_name
        using errcode = 'ES003', constraint = 'events_append_only';
end $$;
