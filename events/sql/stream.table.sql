-- One row a stream: its version gates every append (a unique index over partitions cannot), its hash heads the chain.
create table events_stream (
    stream  text collate "C" primary key check (length(stream) between 3 and 300),
    version bigint not null check (version > 0),
    hash    bytea not null
) with (fillfactor = 70);

comment on table events_stream is 'Head of each stream: last version and last link of its hash chain';
