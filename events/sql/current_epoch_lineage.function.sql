-- Return the epoch; draw a new one when the location of the log has changed since the last was drawn. Then the end of
-- the log may be lost, so positions that readers have seen may be issued again. Checkpoints that were copied with the
-- log change to the new epoch. A checkpoint ahead of the log keeps the old epoch, and its subscription halts.
--
-- The end of the old epoch is kept: the known head, and the events behind it up to the first missing position. What is
-- missing may have been lost, and a commit after it may not. The trigger events_guard() calls this before the first
-- append of a session, so no event of the new epoch is stored yet, and none can be mistaken for one of the old.
create or replace function events_current_epoch() returns uuid language plpgsql as $$
declare
    v_epoch uuid;
    v_place text;
    v_known bigint;
    v_upto  bigint;
begin
    select epoch, place into v_epoch, v_place from events_epoch;
    if pg_is_in_recovery() or v_place = events_place() or current_setting('transaction_read_only')::boolean then
        return v_epoch;  -- on a standby, and in a transaction that cannot write, the old one: a writer draws the next
    end if;
    select epoch, place into v_epoch, v_place from events_epoch for update;
    if v_place = events_place() then
        return v_epoch;  -- another session drew it while we waited for the row
    end if;
    v_known := events_known_head();
    select max(position) into v_upto
      from (select position, row_number() over (order by position) as number
              from (select position from events_event where position > v_known order by position limit 100000) e) n
     where position = v_known + number;
    v_upto := coalesce(v_upto, v_known);
    update events_epoch_history set upto = v_upto where upto > v_upto;
    insert into events_epoch_history (epoch, upto) values (v_epoch, v_upto);
    update events_epoch set epoch = gen_random_uuid(), started_at = clock_timestamp(), place = events_place()
    returning epoch into v_epoch;
    update events_checkpoint set epoch = v_epoch
     where position <= coalesce(pg_sequence_last_value('events_position_seq'), 0);
    return v_epoch;
end $$;
