-- ENABLE ALWAYS: a restore or a replica applies rows with session_replication_role = replica, which skips plain
-- triggers.
create trigger floor_guard before insert on events_event
    for each statement execute function events_guard();
create trigger append_only before update or delete on events_event
    for each row execute function events_refuse();
create trigger no_truncate before truncate on events_event
    for each statement execute function events_refuse();
alter table events_event enable always trigger floor_guard;
alter table events_event enable always trigger append_only;
alter table events_event enable always trigger no_truncate;
