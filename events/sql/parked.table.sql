-- Events that a subscription could not handle (`error`, `traceback`), and those of the same stream that wait behind
-- them (`error` is null), in order. A stream with a row here is parked for that subscription; the others continue.
create table events_parked (
    subscription text not null,
    stream       text collate "C" not null,
    position     bigint not null,
    error        text,
    traceback    text,
    attempts     integer not null default 0,
    parked_at    timestamptz not null default now(),
    tried_at     timestamptz,
    primary key (subscription, stream, position)
);
