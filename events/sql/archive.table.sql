-- Archived partitions: positions low <= p < high are in a file. While gone_at is null they are in the log as well.
create table events_archive (
    low          bigint primary key,
    high         bigint not null unique check (high > low),
    file         text not null unique,
    sha256       bytea not null check (length(sha256) = 32),
    index_sha256 bytea not null check (length(index_sha256) = 32),
    bytes        bigint not null,
    events       bigint not null,
    written_at   timestamptz not null default now(),
    gone_at      timestamptz
);

comment on table events_archive is 'Ranges of the log that were written to files; gone_at: and removed from it';
