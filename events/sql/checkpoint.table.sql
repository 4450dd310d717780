-- The position of each subscription. `owner` holds the lease until `leased_until`; `fence` grows at each change of
-- owner, and every update names the fence of its lease, so a runner that was paused cannot overwrite its successor's
-- work.
create table events_checkpoint (
    name         text primary key,
    position     bigint not null default 0,
    epoch        uuid not null,
    fence        bigint not null default 0,
    owner        text,
    leased_until timestamptz,
    updated_at   timestamptz not null default now(),
    error        text
);
