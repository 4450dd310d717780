-- How far the purges of erased data are. Subjects erased in one transaction have the same time and are purged together,
-- in groups. Each batch is a transaction that moves its row, so an interrupted purge continues where it was.
create table if not exists events_purge (
    erased_at  timestamptz primary key,
    subjects   text[] not null,
    step       text not null,
    after      jsonb,
    rows       bigint not null default 0,
    expected   bigint not null default 0,
    updated_at timestamptz not null default clock_timestamp()
);

comment on table events_purge is 'Purges that are not finished: the group of subjects, its step, and the rows so far';
