-- The subject of a snapshot's personal data, for erasures. Null: no personal data, or unencrypted by an earlier
-- release.
create index events_snapshot_subject on events_snapshot ((state #>> '{$personal,of}'));
