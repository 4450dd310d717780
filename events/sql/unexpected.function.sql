-- Raise the error of an append whose stream is not at the expected version.
create function events_unexpected(p_stream text, p_expected bigint, p_actual bigint) returns void language plpgsql as $$
begin
    raise exception 'Stream % is at version %, expected %', p_stream, p_actual, p_expected
        using errcode = 'ES001', constraint = 'events_expected_version',
              detail = jsonb_build_object('stream', p_stream, 'expected', p_expected, 'actual', p_actual)::text;
end $$;
