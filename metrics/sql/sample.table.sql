-- The samples: one row a slot and source. `slot` is floor(epoch / 5) by the clock of this database; `v` has the values
-- in the order of metrics/monitoring/metric_types.py, NULL where a value is missing. The row of the source `sampler`
-- claims the slot. Daily partitions, see metrics_history_partitions.
create table metrics_sample (
    slot bigint not null,
    source text not null,
    v real[] not null,
    primary key (source, slot)
) partition by range (slot);
