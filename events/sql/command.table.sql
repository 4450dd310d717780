-- Idempotency keys. The id and its answer are written in the transaction that does the work, so a command
-- is either stored with its answer or not at all. The fingerprint distinguishes a retry from another use of the id.
create table events_command (
    id          uuid primary key,
    fingerprint bytea not null,
    result      jsonb not null,
    created_at  timestamptz not null default now()
);
create index events_command_created on events_command using brin (created_at);
