-- How far each subscription has come. `owner` holds it until `leased_until`; `fence` grows at each change of owner, and
-- every checkpoint update names the fence it was taken under, so a runner that was paused cannot write over its heir.
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
