-- The keys of these subjects in one round trip; those without a key get the offered one. Of two concurrent offers one
-- wins: the other waits for it, and returns its key. An erased subject has a null.
create function events_keys(p_subjects text[], p_key_id text, p_secrets bytea[])
returns table (o_generation bigint, o_subject text, o_key_id text, o_secret bytea)
language plpgsql set plan_cache_mode = force_generic_plan as $$
begin
    insert into events_subject_key (subject, key_id, secret)
        select n.subject, p_key_id, n.secret from unnest(p_subjects, p_secrets) n(subject, secret)
         where not exists (select 1 from events_subject_key k where k.subject = n.subject)
         order by n.subject
        on conflict (subject) do nothing;
    return query
    select s.generation, k.subject, k.key_id, k.secret
      from events_shredding s join events_subject_key k on k.subject = any(p_subjects);
end $$;
