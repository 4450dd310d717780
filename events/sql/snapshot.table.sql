-- Stored states. Several per stream: a snapshot newer than the requested version must not be used.
create table events_snapshot (
    stream        text collate "C" not null,
    version       bigint not null check (version > 0),
    state_version int not null,
    state         jsonb not null,
    created_at    timestamptz not null default now(),
    primary key (stream, version)
);
