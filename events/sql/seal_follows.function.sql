-- A seal starts exactly where the previous one ended, with the right number, range, link and hash.
create function events_seal_follows() returns trigger language plpgsql as $$
declare
    v_last events_seal;
begin
    select * into v_last from events_seal order by number desc limit 1;
    if new.number <> coalesce(v_last.number, 0) + 1 or new.after <> coalesce(v_last.upto, 0)
       or new.previous <> coalesce(v_last.hash, decode(repeat('00', 32), 'hex'))
       or new.hash <> sha256('\x02'::bytea || int8send(new.number) || uuid_send(new.epoch) || int8send(new.after)
              || int8send(new.upto) || int8send(new.count)
              || int8send((extract(epoch from new.sealed_at) * 1000000)::bigint) || new.root || new.previous
              || sha256(convert_to(new.positions::text, 'UTF8')) || sha256(new.prints)) then
        raise exception 'Seal % does not follow from the one before', new.number
            using errcode = 'ES003', constraint = 'events_append_only';
    end if;
    return new;
end $$;
