-- What one request caused, in order: its first events are read without the others. Only for the log as a whole, which
-- takes no time; `partition_indexes` builds the index of each partition, and new partitions get theirs from this one.
create index if not exists events_event_request on only events_event (correlation_id, position)
    where correlation_id is not null;
