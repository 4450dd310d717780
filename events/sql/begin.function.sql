-- The reading half of a command in one round trip: lock its stream, find its id, load the parts of its state. Each
-- statement of a volatile function has a snapshot of its own under READ COMMITTED, so rows read after the lock are
-- protected by it: an identical command that had the lock has committed its answer by then.
create function events_begin(
    p_id uuid, p_stream text, p_state_version int,
    out o_now timestamptz, out o_fingerprint bytea, out o_result text,
    out o_version bigint, out o_snapshot_version bigint, out o_snapshot text, out o_tail text
) language plpgsql as $$
begin
    o_now := now();
    select s.version into o_version from events_stream s where s.stream = p_stream for update;
    select c.fingerprint, c.result::text into o_fingerprint, o_result from events_command c where c.id = p_id;
    if o_fingerprint is not null or o_version is null then
        o_version := coalesce(o_version, 0);
        return;
    end if;
    select s.version, s.state::text into o_snapshot_version, o_snapshot
      from events_snapshot s
     where s.stream = p_stream and s.state_version = p_state_version and s.version <= o_version
     order by s.version desc limit 1;
    select json_agg(json_build_array(e.type, e.schema_version, e.data, e.event_id) order by e.version)::text into o_tail
      from events_event e
     where e.stream = p_stream and e.version > coalesce(o_snapshot_version, 0);
end $$;
