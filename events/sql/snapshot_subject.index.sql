-- Whose personal data a snapshot holds: an erasure drops theirs. Null: nobody's, or in the clear by an earlier release.
create index events_snapshot_subject on events_snapshot ((state #>> '{$personal,of}'));
