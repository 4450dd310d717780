-- A random text wrapped by each master key that was ever used, in the transaction of its first use. It is opened
-- before a key is wrapped: another key under the same id is noticed before anything is encrypted with it.
create table events_master_key (
    key_id     text primary key,
    witness    bytea not null,
    created_at timestamptz not null default now()
);
