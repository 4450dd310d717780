-- Append one event: the common case, in one round trip. The stream row is locked first, then the guard publishes the
-- floor, then the position is drawn: so version order is position order, and a wait on a hot stream holds no floor.
-- Left to itself PostgreSQL would plan these inserts anew at every call, which costs more than they do: connections of
-- ours ask for generic plans (settings). A setting on the function would be set and reset at every call.
-- p_expected: null = any, 0 = no stream yet, -1 = some stream, n = exactly n.
create function events_append_one(
    p_stream text, p_expected bigint, p_type text, p_schema_version smallint, p_data jsonb, p_event_id uuid,
    p_actor text, p_reason text, p_correlation_id uuid, p_causation_id uuid, p_metadata jsonb,
    out o_version bigint, out o_position bigint
) language plpgsql as $$
declare
    v_hash bytea := events_digest(p_stream, p_type, p_schema_version, p_data, p_event_id, now(), p_actor, p_reason,
                                  p_correlation_id, p_causation_id, p_metadata);
begin
    insert into events_stream as s (stream, version, hash) values (p_stream, 1, v_hash)
        on conflict (stream) do update set version = s.version + 1, hash = sha256(s.hash || excluded.hash)
        returning s.version, s.hash into o_version, v_hash;
    if p_expected is not null and o_version - 1 <> p_expected and not (p_expected = -1 and o_version > 1) then
        raise exception 'Stream % is at version %, expected %', p_stream, o_version - 1, p_expected
            using errcode = 'ES001', constraint = 'events_expected_version',
                  detail = jsonb_build_object('stream', p_stream, 'expected', p_expected, 'actual', o_version - 1)::text;
    end if;
    insert into events_event (stream, version, type, schema_version, data, event_id, actor, reason,
                              correlation_id, causation_id, metadata, hash)
        values (p_stream, o_version, p_type, p_schema_version, p_data, p_event_id, p_actor, p_reason,
                p_correlation_id, p_causation_id, p_metadata, v_hash)
        returning position into o_position;
end $$;
