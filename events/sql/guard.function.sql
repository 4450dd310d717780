-- Publish this transaction's floor before it draws a position: "I will only use positions above this."
-- A shared advisory lock keyed by the sequence's present value; PostgreSQL drops it at commit, abort or crash.
-- Readers take the lowest floor as the head (events/head.py has the proof). Once per transaction: the note that it is
-- taken is LOCAL, so a savepoint that rolls back loses note and lock together.
create function events_guard() returns trigger language plpgsql as $$
declare
    v_floor bigint;
begin
    if coalesce(current_setting('events.floor_xid', true), '') <> pg_current_xact_id()::text then
        v_floor := coalesce(pg_sequence_last_value('events_position_seq'), 0);
        perform pg_advisory_xact_lock_shared((17779::bigint << 48) | v_floor);
        perform set_config('events.floor_xid', pg_current_xact_id()::text, true);
    end if;
    return null;
end $$;
