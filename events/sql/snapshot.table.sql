-- States folded so far. Several per stream: a snapshot newer than the version asked for must never serve an older state.
create table events_snapshot (
    stream        text collate "C" not null,
    version       bigint not null check (version > 0),
    state_version int not null,
    state         jsonb not null,
    created_at    timestamptz not null default now(),
    primary key (stream, version)
);
