-- A random text wrapped by each master key that was ever used, in the transaction of its first use. It is
-- decrypted before a key is wrapped: so another key under the same id is detected before it encrypts any data.
create table events_master_key (
    key_id     text primary key,
    witness    bytea not null,
    created_at timestamptz not null default now()
);
