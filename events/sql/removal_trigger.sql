drop trigger append_only on events_event;
create trigger append_only before update or delete on events_event
    for each row execute function events_refuse_change();
alter table events_event enable always trigger append_only;
