-- Idempotency keys. The id and its answer are written in the transaction that does the work, so a command either
-- happened with its answer, or not at all. The fingerprint tells a retry from a reuse of the id for something else.
create table events_command (
    id          uuid primary key,
    fingerprint bytea not null,
    result      jsonb not null,
    created_at  timestamptz not null default now()
);
create index events_command_created on events_command using brin (created_at);
