-- The subject of a command's personal data, so that an erasure finds its answer: the record's stream, and its subject
-- where it has one. Null in rows of earlier releases, whose fingerprints were keyed and whose notes were dropped
-- instead.
alter table events_command
    add column stream  text collate "C",
    add column subject text collate "C";
-- The index omits the stream: an import has one subject for all its rows, and an index of one value costs almost
-- nothing.
create index events_command_subject on events_command (subject) where subject is not null;
create index events_command_unkeyed on events_command (id) where octet_length(fingerprint) = 32;
