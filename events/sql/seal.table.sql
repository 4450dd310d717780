-- Seals: for each range of positions (after, upto] the Merkle root of its events, chained to the seal before.
-- `positions` and `prints` (the first 8 bytes of each leaf) prove nothing that the root does not; they let a check
-- name the row. docs/integrity.md gives every byte of `hash`. The uniqueness of `after` and `upto` keeps the ranges
-- from forking.
create table events_seal (
    number    bigint primary key check (number > 0),
    epoch     uuid not null,
    after     bigint not null unique,
    upto      bigint not null unique check (upto > after),
    count     bigint not null check (count >= 0),
    sealed_at timestamptz not null default now(),
    root      bytea not null check (length(root) = 32),
    previous  bytea not null check (length(previous) = 32),
    positions int8multirange not null,
    prints    bytea not null check (length(prints) = 8 * count),
    hash      bytea not null
);
alter table events_seal alter column prints set storage external;

comment on table events_seal is 'Merkle roots over ranges of the log, each chained to the one before; append-only';
