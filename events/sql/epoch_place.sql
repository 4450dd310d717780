-- The location of the log when its epoch was drawn (events_place); a restored, promoted or copied log has another one.
alter table events_epoch add column place text;
