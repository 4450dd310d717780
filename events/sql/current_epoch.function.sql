-- Return the epoch; draw a new one when the location of the log has changed since the last was drawn. Then the end of
-- the log may be lost, so positions that readers have seen may be issued again. Checkpoints that were copied with the
-- log change to the new epoch. A checkpoint ahead of the log keeps the old epoch, and its subscription halts.
create function events_current_epoch() returns uuid language plpgsql as $$
declare
    v_epoch uuid;
    v_place text;
begin
    select epoch, place into v_epoch, v_place from events_epoch;
    if pg_is_in_recovery() or v_place = events_place() or current_setting('transaction_read_only')::boolean then
        return v_epoch;  -- on a standby, and in a transaction that cannot write, the old one: a writer draws the next
    end if;
    update events_epoch set epoch = gen_random_uuid(), started_at = clock_timestamp(), place = events_place()
     where place is distinct from events_place() returning epoch into v_epoch;
    if not found then
        return (select epoch from events_epoch);  -- another session drew it while we waited for the row
    end if;
    update events_checkpoint set epoch = v_epoch
     where position <= coalesce(pg_sequence_last_value('events_position_seq'), 0);
    return v_epoch;
end $$;
