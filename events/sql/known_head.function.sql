-- A position up to which the log is complete on this server, also on a standby: the highest that a subscription has
-- reached. It read up to the safe head of the primary and committed its checkpoint after that, so every event at or
-- below it was committed earlier, and a standby replays commits in that order (events/head.py). At most as far behind
-- the safe head as the subscriptions are; 0 where none has run.
create function events_known_head() returns bigint language sql stable as $$
    select least(  -- which ignores null
        coalesce((select max(position) from events_checkpoint where epoch = (select epoch from events_epoch)), 0),
        coalesce((select position from events_event order by position desc limit 1), 0))
$$;
