-- Append one event: the common case, in one round trip. The stream's row is locked first, then a trigger publishes
-- the floor, then the position is drawn: so version order is position order, and a wait for a busy stream holds no
-- floor. By default PostgreSQL would plan these statements at every call, which costs more than running them: the
-- application's connections ask for generic plans (events/db/session.py). A setting on the function would be set and
-- reset at every call. p_expected: null = any, 0 = no stream yet, -1 = some stream, n = exactly n. Each case has the
-- statement it needs, because an upsert costs nearly twice an insert. Creating an existing stream breaks its primary
-- key (events/db/driver_errors.py).
create function events_append_one(
    p_stream text, p_expected bigint, p_type text, p_schema_version smallint, p_data jsonb, p_event_id uuid,
    p_actor text, p_reason text, p_correlation_id uuid, p_causation_id uuid, p_metadata jsonb,
    out o_version bigint, out o_position bigint
) language plpgsql as $$
declare
    v_hash bytea := events_digest(p_stream, p_type, p_schema_version, p_data, p_event_id, now(), p_actor, p_reason,
                                  p_correlation_id, p_causation_id, p_metadata);
begin
    if p_expected = 0 then
        insert into events_stream (stream, version, hash) values (p_stream, 1, v_hash);
        o_version := 1;
    elsif p_expected is null then
        insert into events_stream as s (stream, version, hash) values (p_stream, 1, v_hash)
            on conflict (stream) do update set version = s.version + 1, hash = sha256(s.hash || excluded.hash)
            returning s.version, s.hash into o_version, v_hash;
    else
        update events_stream s set version = s.version + 1, hash = sha256(s.hash || v_hash)
         where s.stream = p_stream returning s.version, s.hash into o_version, v_hash;
        if o_version is null or o_version <> p_expected + 1 and p_expected <> -1 then
            perform events_unexpected(p_stream, p_expected, coalesce(o_version - 1, 0));
        end if;
    end if;
    insert into events_event (stream, version, type, schema_version, data, event_id, actor, reason,
                              correlation_id, causation_id, metadata, hash)
        values (p_stream, o_version, p_type, p_schema_version, p_data, p_event_id, p_actor, p_reason,
                p_correlation_id, p_causation_id, p_metadata, v_hash)
        returning position into o_position;
end $$;
