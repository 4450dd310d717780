-- Refuse changes of stored events, with one exception: an event may be emptied once its removal is recorded, with its
-- digest, in the stream removal-<position>. So the chain still holds, and the record names the actor and the reason.
create function events_refuse_change() returns trigger language plpgsql as $$
begin
    if tg_op = 'UPDATE' and new.type = 'event.removed' and new.schema_version = 1 and new.data = '{}'
       and new.metadata = '{}' and new.reason is null and new.hash = old.hash
       and (new.position, new.stream, new.version, new.event_id, new.recorded_at, new.actor)
           = (old.position, old.stream, old.version, old.event_id, old.recorded_at, old.actor)
       and (new.correlation_id, new.causation_id) is not distinct from (old.correlation_id, old.causation_id)
       and exists (
           select from events_event e
            where e.stream = 'removal-' || old.position and e.version = 1 and e.type = 'log.removed'
              and e.data->>'digest' = encode(events_digest(
                      old.stream, old.type, old.schema_version, old.data, old.event_id, old.recorded_at, old.actor,
                      old.reason, old.correlation_id, old.causation_id, old.metadata), 'hex')) then
        return new;
    end if;
    raise exception 'Stored events are append-only: % on % is refused', tg_op, tg_table_name
        using errcode = 'ES003', constraint = 'events_append_only';
end $$;
