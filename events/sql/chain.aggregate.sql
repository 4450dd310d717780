-- The hash chain as a window aggregate. The first link is the digest of the first event, each later one is
-- sha256(link before || digest). p_previous is the last link stored of the stream, null for a new stream.
create function events_chain_step(p_state bytea, p_previous bytea, p_digest bytea) returns bytea
    language sql immutable parallel safe as $$
    select case when coalesce(p_state, p_previous) is null then p_digest
                else sha256(coalesce(p_state, p_previous) || p_digest) end
$$;
create aggregate events_chain(bytea, bytea) (sfunc = events_chain_step, stype = bytea);
