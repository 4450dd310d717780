-- Counts erasures. Every statement that reads events reads it too: a process whose keys are of an older generation
-- drops them, so that erased data is unreadable everywhere from the commit on, without any message. Numbers come from
-- a sequence, so that a rolled back one is never issued again.
create sequence events_shredding_seq as bigint;
create table events_shredding (
    one        boolean primary key default true check (one),
    generation bigint not null default 0
);
alter sequence events_shredding_seq owned by events_shredding.generation;
insert into events_shredding default values;
