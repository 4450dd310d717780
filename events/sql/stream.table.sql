-- One row a stream: its version gates every append (a unique index over partitions cannot), its hash heads the chain.
-- No CHECK here or on the log: PostgreSQL would read each anew from its text at every insert. The store checks.
create table events_stream (
    stream  text collate "C" primary key,
    version bigint not null,
    hash    bytea not null
) with (fillfactor = 70);

comment on table events_stream is 'Head of each stream: last version and last link of its hash chain';
