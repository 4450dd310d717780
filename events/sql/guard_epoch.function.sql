-- Publish this transaction's floor before it draws a position: "all my positions are above this". A shared advisory
-- lock keyed by the sequence's present value; PostgreSQL drops it at commit, abort or crash. Readers take the lowest
-- floor as the head (events/head.py has the proof). Once per transaction: the setting that records the lock is LOCAL,
-- so a savepoint that rolls back loses setting and lock together. Each step is an assignment or a condition, which
-- plpgsql evaluates itself; anything else it runs as a query.
--
-- The first append of a session on a timeline of PostgreSQL draws the epoch where it must be drawn, before any event of
-- the new history is stored (events_current_epoch).
create or replace function events_guard() returns trigger language plpgsql as $$
declare
    v_key bigint;
    v_note text;
    v_timeline text;
begin
    if current_setting('events.floor_xid', true) is distinct from pg_current_xact_id()::text then
        v_timeline := left(pg_walfile_name(pg_current_wal_insert_lsn()), 8);
        if current_setting('events.timeline', true) is distinct from v_timeline then
            if events_current_epoch() is not null then
                v_note := set_config('events.timeline', v_timeline, false);
            end if;
        end if;
        v_key := (17779::bigint << 48) | coalesce(pg_sequence_last_value('events_position_seq'), 0);
        if pg_advisory_xact_lock_shared(v_key) is not null then  -- void, which is not null: the lock is taken
            v_note := set_config('events.floor_xid', pg_current_xact_id()::text, true);
        end if;
        if current_setting('synchronous_commit') = 'off' then  -- a row that is seen must be on disk (events/head.py)
            v_note := set_config('synchronous_commit', 'on', true);
        end if;
    end if;
    return null;
end $$;
