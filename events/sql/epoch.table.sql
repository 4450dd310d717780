-- The identity of this history: a new one is drawn whenever positions may have been issued twice (a restore, a standby
-- promoted with a lost tail), and every reader that holds a position of another epoch starts over.
create table events_epoch (
    one         boolean primary key default true check (one),
    epoch       uuid not null default gen_random_uuid(),
    started_at  timestamptz not null default now()
);
insert into events_epoch default values;
