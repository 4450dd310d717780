-- The contribution of one event to its stream's hash chain: all its content, each part preceded by its length, so
-- that nothing can move from one part to the next. The data comes last: it is long, and needs no length there, so
-- that it is converted to text only once. The instant comes first, in its eight bytes: its text depends on the
-- session's time zone. STABLE and not IMMUTABLE, because PostgreSQL then inlines it; a call that is not
-- inlined costs more than the hash.
create function events_digest(
    p_stream text, p_type text, p_schema_version smallint, p_data jsonb, p_event_id uuid, p_recorded_at timestamptz,
    p_actor text, p_reason text, p_correlation_id uuid, p_causation_id uuid, p_metadata jsonb
) returns bytea language sql stable parallel safe as $$
    select sha256(timestamptz_send(p_recorded_at) || convert_to(concat(
        length(p_stream), ':', p_stream, length(p_type), ':', p_type, p_schema_version, ':', p_event_id,
        ':', length(p_actor), ':', p_actor, coalesce(length(p_reason) || ':' || p_reason, '-'),
        ':', coalesce(p_correlation_id::text, '-'), ':', coalesce(p_causation_id::text, '-'),
        ':', length(p_metadata::text), ':', p_metadata::text, p_data::text), 'UTF8'))
$$;
