-- The last report of each process. Not logged: a process reports again within five seconds, and after a crash of the
-- database the figures of one slot are missing. `seen` and `seen_buckets` are the counts that a sample already has.
create unlogged table metrics_process (
    process text primary key,
    kind text not null,
    host text not null,
    started_at timestamptz not null,
    reported_at timestamptz not null,
    active_at timestamptz,
    host_values real[] not null,
    counts bigint[] not null,
    buckets integer[] not null,
    people text[] not null,
    seen bigint[],
    seen_buckets integer[],
    seen_slot bigint
) with (fillfactor = 50);
-- The last value of counters that something else keeps, to take differences.
create table metrics_counter (
    name text primary key,
    value double precision not null,
    slot bigint not null
) with (fillfactor = 50);
-- Who runs a loop of which there is to be one.
create table metrics_lease (
    name text primary key,
    owner text not null,
    leased_until timestamptz not null
) with (fillfactor = 50);
