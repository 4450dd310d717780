-- Number of events that a rebuild skipped because this release cannot read them.
alter table events_rebuild add column unreadable bigint not null default 0;
