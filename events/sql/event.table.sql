-- The log. Positions come from one sequence (cache 1: a larger cache would break the order that readers rely on) and
-- partition it, so that old ranges can be detached and archived; events_partition() creates the next ones in time.
create sequence events_position_seq as bigint increment 1 minvalue 1 no cycle cache 1;

create table events_event (
    position       bigint not null default nextval('events_position_seq') primary key,
    stream         text collate "C" not null,
    version        bigint not null,
    type           text collate "C" not null,
    schema_version smallint not null default 1,
    data           jsonb not null,
    event_id       uuid not null,
    recorded_at    timestamptz not null default now(),
    actor          text not null,
    reason         text,
    correlation_id uuid,
    causation_id   uuid,
    metadata       jsonb not null default '{}',
    hash           bytea not null
) partition by range (position);

alter sequence events_position_seq owned by events_event.position;

-- Correlation ids are made in time order, so a B-tree grows at one end; a bloom BRIN would rewrite its filter of
-- several kilobytes at every insert. A BRIN index on the recorded time costs almost nothing.
create index events_event_correlation on events_event (correlation_id) where correlation_id is not null;
create index events_event_recorded on events_event using brin (recorded_at) with (pages_per_range = 32);

comment on table events_event is 'Append-only log of everything that happened; written by the functions events_append_*';
