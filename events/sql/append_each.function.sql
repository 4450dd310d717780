-- Append one event to each of many streams, all or nothing: for imports. The arrays are parallel, in the order to
-- store; p_expected as in events_append_one. Streams are locked in the order of their names, so that two writers of
-- the same streams cannot deadlock; where all streams are new, they are only inserted.
create function events_append_each(
    p_streams text[], p_expected bigint[], p_types text[], p_schema_versions bigint[], p_data jsonb[],
    p_event_ids uuid[],
    p_actor text, p_reason text, p_correlation_id uuid, p_causation_id uuid, p_metadata jsonb
) returns table (o_stream text, o_version bigint, o_position bigint) language plpgsql as $$
declare
    v_versions bigint[];
    v_hashes bytea[];
    v_wrong record;
begin
    if 0 = all(p_expected) then
        select array_agg(events_digest(e.stream, e.type, e.schema_version::smallint, e.data, e.event_id, now(),
                                       p_actor, p_reason, p_correlation_id, p_causation_id, p_metadata) order by e.n),
               array_agg(1)
          into v_hashes, v_versions
          from unnest(p_streams, p_types, p_schema_versions, p_data, p_event_ids)
               with ordinality as e(stream, type, schema_version, data, event_id, n);
        insert into events_stream (stream, version, hash)
            select e.stream, 1, e.hash from unnest(p_streams, v_hashes) as e(stream, hash)
             order by e.stream collate "C";
    else
        with locked as (
            insert into events_stream as s (stream, version, hash)
                select e.stream, 1, events_digest(e.stream, e.type, e.schema_version::smallint, e.data, e.event_id,
                                                  now(), p_actor, p_reason, p_correlation_id, p_causation_id,
                                                  p_metadata)
                  from unnest(p_streams, p_types, p_schema_versions, p_data, p_event_ids)
                       as e(stream, type, schema_version, data, event_id)
                 order by e.stream collate "C"
                on conflict (stream) do update set version = s.version + 1, hash = sha256(s.hash || excluded.hash)
                returning s.stream, s.version, s.hash
        )
        select array_agg(l.version order by e.n), array_agg(l.hash order by e.n)
          into v_versions, v_hashes
          from unnest(p_streams) with ordinality as e(stream, n) join locked l on l.stream = e.stream collate "C";

        select e.stream, e.expected, e.version - 1 as actual into v_wrong
          from unnest(p_streams, p_expected, v_versions) as e(stream, expected, version)
         where e.expected <> e.version - 1 and not (e.expected = -1 and e.version > 1)
         limit 1;
        if found then
            perform events_unexpected(v_wrong.stream, v_wrong.expected, v_wrong.actual);
        end if;
    end if;

    return query
    insert into events_event (stream, version, type, schema_version, data, event_id, actor, reason,
                              correlation_id, causation_id, metadata, hash)
        select e.stream, e.version, e.type, e.schema_version, e.data, e.event_id, p_actor, p_reason,
               p_correlation_id, p_causation_id, p_metadata, e.hash
          from unnest(p_streams, p_types, p_schema_versions, p_data, p_event_ids, v_versions, v_hashes)
               with ordinality as e(stream, type, schema_version, data, event_id, version, hash, n)
         order by e.n
        returning events_event.stream, events_event.version, events_event.position;
end $$;
