-- What one event contributes to its stream's hash chain: everything a reader could be lied to about, in a fixed form.
-- Instants as microseconds since 1970, because their text depends on the session's time zone.
create function events_digest(
    p_stream text, p_type text, p_schema_version smallint, p_data jsonb, p_event_id uuid, p_recorded_at timestamptz,
    p_actor text, p_reason text, p_correlation_id uuid, p_causation_id uuid, p_metadata jsonb
) returns bytea language sql immutable parallel safe as $$
    select sha256(convert_to(jsonb_build_array(
        p_stream, p_type, p_schema_version, p_data, p_event_id, (extract(epoch from p_recorded_at) * 1000000)::bigint,
        p_actor, p_reason, p_correlation_id, p_causation_id, p_metadata)::text, 'UTF8'))
$$;
