-- Where the log lay when its epoch was drawn (events_place); a restored, promoted or copied log lies elsewhere.
alter table events_epoch add column place text;
