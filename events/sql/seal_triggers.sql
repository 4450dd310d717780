-- ENABLE ALWAYS, as on the log itself.
create trigger follows before insert on events_seal
    for each row execute function events_seal_follows();
create trigger append_only before update or delete on events_seal
    for each row execute function events_refuse();
create trigger no_truncate before truncate on events_seal
    for each statement execute function events_refuse();
alter table events_seal enable always trigger follows;
alter table events_seal enable always trigger append_only;
alter table events_seal enable always trigger no_truncate;
