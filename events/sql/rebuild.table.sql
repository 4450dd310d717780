-- How far the rebuild of each read table has come. `pid` and `backend_start` name the session that works on it: when
-- that is gone, so is the builder. `fence` grows with each claim and guards every transaction of a rebuild.
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
