-- The key that a subject's personal data is encrypted with, wrapped by a master key that the database never sees.
-- Erasing the subject deletes the key; the row stays, so that the subject never gets another key. `purged_at`: when
-- all readable copies (read tables, snapshots, answers to commands) were deleted as well.
create table events_subject_key (
    subject    text collate "C" primary key check (length(subject) between 3 and 300),
    key_id     text,
    secret     bytea,
    created_at timestamptz not null default now(),
    erased_at  timestamptz,
    purged_at  timestamptz,
    check ((secret is null) = (erased_at is not null) and (key_id is null) = (secret is null)),
    check (purged_at is null or erased_at is not null)
);
create index events_subject_key_unpurged on events_subject_key (erased_at)
    where erased_at is not null and purged_at is null;
create index events_subject_key_wrapped_by on events_subject_key (key_id);

comment on table events_subject_key is 'Keys of personal data, wrapped; worth a backup of its own with a short life';
