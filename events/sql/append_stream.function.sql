-- Append several events to one stream, all or nothing. As events_append_one; the arrays are parallel, in the order to
-- store. The chain is a loop, because each link needs the previous one: a window aggregate takes several times as long.
create function events_append_stream(
    p_stream text, p_expected bigint, p_types text[], p_schema_versions bigint[], p_data jsonb[], p_event_ids uuid[],
    p_actor text, p_reason text, p_correlation_id uuid, p_causation_id uuid, p_metadata jsonb
) returns table (o_stream text, o_version bigint, o_position bigint) language plpgsql as $$
declare
    v_before bigint := 0;
    v_link bytea;
    v_links bytea[];
    v_number bigint := cardinality(p_types);
begin
    -- 1 compute the digest of each event
    select array_agg(events_digest(p_stream, e.type, e.schema_version::smallint, e.data, e.event_id, now(), p_actor,
                                   p_reason, p_correlation_id, p_causation_id, p_metadata) order by e.n)
      into v_links
      from unnest(p_types, p_schema_versions, p_data, p_event_ids)
           with ordinality as e(type, schema_version, data, event_id, n);

    -- 2 lock an existing stream; a new one is locked by its insertion
    if p_expected is null then
        insert into events_stream (stream, version, hash) values (p_stream, 0, '') on conflict (stream) do nothing;
    end if;
    if p_expected is distinct from 0 then
        select s.version, nullif(s.hash, '') into v_before, v_link from events_stream s
         where s.stream = p_stream for update;
        if v_before is null or v_before <> p_expected and p_expected <> -1 then
            perform events_unexpected(p_stream, p_expected, coalesce(v_before, 0));
        end if;
    end if;

    -- 3 chain the digests, and store the last link with the stream
    for i in 1 .. v_number loop
        v_link := case when v_link is null then v_links[i] else sha256(v_link || v_links[i]) end;
        v_links[i] := v_link;
    end loop;
    if p_expected = 0 then
        insert into events_stream (stream, version, hash) values (p_stream, v_number, v_link);
    else
        update events_stream s set version = v_before + v_number, hash = v_link where s.stream = p_stream;
    end if;

    -- 4 store the events; a trigger publishes the floor before the first position is drawn
    return query
    insert into events_event (stream, version, type, schema_version, data, event_id, actor, reason,
                              correlation_id, causation_id, metadata, hash)
        select p_stream, v_before + e.n, e.type, e.schema_version, e.data, e.event_id, p_actor, p_reason,
               p_correlation_id, p_causation_id, p_metadata, e.hash
          from unnest(p_types, p_schema_versions, p_data, p_event_ids, v_links)
               with ordinality as e(type, schema_version, data, event_id, hash, n)
         order by e.n
        returning events_event.stream, events_event.version, events_event.position;
end $$;
