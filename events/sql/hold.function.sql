-- Writers of personal data lock its subjects until they commit. An erasure waits for these writers, and later writers
-- wait for the erasure, so no data is written about a subject after its key is deleted. A writer takes a shared lock on
-- one of 256 slots instead of one per subject, because an import of many subjects would fill the lock table. Subjects in
-- p_known have keys, those in p_new get theirs now, those in p_alive may have none but must not be erased. A single
-- subject, the usual case, is locked without a query.
create function events_hold(p_known text[], p_new text[], p_key_id text, p_secrets bytea[], p_alive text[])
returns void language plpgsql as $$
declare
    v_all text[] := p_known || p_new || p_alive;
    v_wrong record;
begin
    if cardinality(v_all) > 1 then
        perform pg_advisory_xact_lock_shared(17780, slot)
           from (select distinct hashtext(s) & 255 as slot from unnest(v_all) s order by 1) slots;
    elsif pg_advisory_xact_lock_shared(17780, hashtext(v_all[1]) & 255) is null then
        null;  -- never: void is not null
    end if;
    if cardinality(p_new) > 0 then
        insert into events_subject_key (subject, key_id, secret)
            select n.subject, p_key_id, n.secret from unnest(p_new, p_secrets) n(subject, secret) order by n.subject;
    end if;
    select w.subject, k.erased_at into v_wrong
      from unnest(p_known || p_alive) with ordinality w(subject, n)
      left join events_subject_key k on k.subject = w.subject
     where k.erased_at is not null or (w.n <= cardinality(p_known) and k.secret is null) limit 1;
    if found then
        raise exception 'The subject % has no key', v_wrong.subject
            using errcode = case when v_wrong.erased_at is null then 'unique_violation' else 'ES004' end,
                  constraint = case when v_wrong.erased_at is null then 'events_subject_key_pkey'
                                    else 'events_subject_erased' end;
    end if;
end $$;
