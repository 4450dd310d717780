-- The hash chain as a window aggregate: each link is sha256(previous link || digest), the first one links to p_previous.
create function events_chain_step(p_state bytea, p_previous bytea, p_digest bytea) returns bytea
    language sql immutable parallel safe as $$
    select sha256(coalesce(p_state, p_previous) || p_digest)
$$;
create aggregate events_chain(bytea, bytea) (sfunc = events_chain_step, stype = bytea);
