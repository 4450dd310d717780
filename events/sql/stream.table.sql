-- One row per stream: its version guards every append (a unique index cannot span partitions), its hash is the last
-- link of the chain. No CHECK here or on the log: PostgreSQL would parse each one at every insert. The store checks.
create table events_stream (
    stream  text collate "C" primary key,
    version bigint not null,
    hash    bytea not null
) with (fillfactor = 70);

comment on table events_stream is 'Head of each stream: last version and last link of its hash chain';
