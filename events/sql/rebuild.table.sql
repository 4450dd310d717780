-- The progress of the latest rebuild of each read table. `pid` and `backend_start` name the builder's session: when it
-- has ended, the builder has stopped. `fence` grows with each claim and guards every transaction of a rebuild.
create table events_rebuild (
    name          text primary key,
    phase         text not null,
    position      bigint not null default 0,
    target        bigint not null default 0,
    events        bigint not null default 0,
    recipe        text not null default '',
    fence         bigint not null default 1,
    owner         text,
    pid           integer,
    backend_start timestamptz,
    started_at    timestamptz not null default clock_timestamp(),
    resumed_at    timestamptz not null default clock_timestamp(),
    resumed_from  bigint not null default 0,
    updated_at    timestamptz not null default clock_timestamp(),
    finished_at   timestamptz,
    error         text
);
