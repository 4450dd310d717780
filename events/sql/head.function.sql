-- The last position drawn, and the safe head, in one round trip: steps 1 and 2 of events/head.py, which has the
-- proof. Each statement of a volatile function has a snapshot of its own under READ COMMITTED, and runs in this
-- order. The guard's key is (17779 << 48) | floor; pg_locks shows it as two 32-bit halves. Rows above the floor are
-- not read, even when an open import has written many there.
create function events_head(out o_last bigint, out o_safe bigint) language plpgsql as $$
declare
    v_floor bigint;
begin
    o_last := coalesce(pg_sequence_last_value('events_position_seq'), 0);

    select min(((classid::bigint & 65535) << 32) | objid::bigint) into v_floor from pg_locks
     where locktype = 'advisory' and objsubid = 1 and (classid::bigint >> 16) = 17779
       and database = (select oid from pg_database where datname = current_database());
    select position into o_safe from events_event
     where position <= least(o_last, v_floor) order by position desc limit 1;
    o_safe := coalesce(o_safe, 0);
end $$;
