-- Counts erasures. Every statement that reads events reads it too: a process whose keys are of an older generation lets
-- them go, so that what was erased is unreadable everywhere with the commit, without a message to anybody. Numbers come
-- from a sequence: one that was rolled back is never another one's.
create sequence events_shredding_seq as bigint;
create table events_shredding (
    one        boolean primary key default true check (one),
    generation bigint not null default 0
);
alter sequence events_shredding_seq owned by events_shredding.generation;
insert into events_shredding default values;
