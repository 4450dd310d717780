-- Append any number of events to any number of streams, all or nothing. As events_append_each, but a stream may have
-- several events, which are numbered and chained in the given order; "x" applies to the first of them.
create function events_append_many(
    p_events jsonb, p_actor text, p_reason text, p_correlation_id uuid, p_causation_id uuid, p_metadata jsonb
) returns table (o_stream text, o_version bigint, o_position bigint) language plpgsql as $$
declare
    v_streams text[];
    v_before bigint[];
    v_hashes bytea[];
    v_wrong record;
begin
    -- 1 lock the streams and raise their versions; a new one has no link yet
    with wanted as (
        select e->>'s' as stream, count(*) as n from jsonb_array_elements(p_events) e group by 1
    ), locked as (
        insert into events_stream as s (stream, version, hash)
            select w.stream, w.n, '' from wanted w order by w.stream collate "C"
            on conflict (stream) do update set version = s.version + excluded.version
            returning s.stream, s.version, s.hash
    )
    select array_agg(l.stream), array_agg(l.version - w.n), array_agg(nullif(l.hash, ''))
      into v_streams, v_before, v_hashes
      from locked l join wanted w on w.stream = l.stream collate "C";

    -- 2 check the expected versions
    select b.stream, b.version as actual, (e->>'x')::bigint as expected into v_wrong
      from jsonb_array_elements(p_events) e
      join unnest(v_streams, v_before) as b(stream, version) on b.stream = e->>'s'
     where jsonb_typeof(e->'x') = 'number' and (e->>'x')::bigint <> b.version
       and not ((e->>'x')::bigint = -1 and b.version > 0)
     limit 1;
    if found then
        raise exception 'Stream % is at version %, expected %', v_wrong.stream, v_wrong.actual, v_wrong.expected
            using errcode = 'ES001', constraint = 'events_expected_version', detail = to_jsonb(v_wrong)::text;
    end if;

    -- 3 number, chain and store the events; a trigger publishes the floor before the first position
    return query
    with entry as (
        select * from rows from (jsonb_to_recordset(p_events) as (s text, t text, v smallint, d jsonb, i uuid))
                 with ordinality as e(stream, type, schema_version, data, event_id, n)
    ), chained as (
        select e.*, b.version + row_number() over stream as version,
               events_chain(b.hash, events_digest(e.stream, e.type, e.schema_version, e.data, e.event_id, now(),
                            p_actor, p_reason, p_correlation_id, p_causation_id, p_metadata)) over stream as link
          from entry e join unnest(v_streams, v_before, v_hashes) as b(stream, version, hash) on b.stream = e.stream
        window stream as (partition by e.stream order by e.n)
    ), stored as (
        insert into events_event (stream, version, type, schema_version, data, event_id, actor, reason,
                                  correlation_id, causation_id, metadata, hash)
            select c.stream, c.version, c.type, c.schema_version, c.data, c.event_id, p_actor, p_reason,
                   p_correlation_id, p_causation_id, p_metadata, c.link
              from chained c order by c.n
            returning events_event.stream, events_event.version, events_event.position, events_event.hash
    ), headed as (
        select distinct on (s.stream) s.stream, s.hash from stored s order by s.stream, s.version desc
    ), linked as (
        update events_stream t set hash = h.hash from headed h where t.stream = h.stream collate "C" returning 1
    )
    select s.stream, s.version, s.position from stored s where (select count(*) from linked) >= 0;
end $$;
