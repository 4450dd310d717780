-- Samples rolled up by minute and by hour: for each position of the source the number of values, the lowest, the
-- highest and the sum. Monthly and yearly partitions, see metrics_history_partitions.
create table metrics_minute (
    at timestamptz not null,
    source text not null,
    n smallint[] not null,
    lo real[] not null,
    hi real[] not null,
    total real[] not null,
    primary key (source, at)
) partition by range (at);
create table metrics_hour (
    at timestamptz not null,
    source text not null,
    n smallint[] not null,
    lo real[] not null,
    hi real[] not null,
    total real[] not null,
    primary key (source, at)
) partition by range (at);
-- Durations of requests: the number of requests in each bucket of metrics/monitoring/buckets.py.
create table metrics_histogram (
    at timestamptz not null,
    name text not null,
    counts integer[] not null,
    primary key (name, at)
) partition by range (at);
create table metrics_histogram_hour (
    at timestamptz not null,
    name text not null,
    counts integer[] not null,
    primary key (name, at)
) partition by range (at);
-- Up to where each tier is complete.
create table metrics_rollup (
    tier text primary key,
    upto timestamptz not null
);
