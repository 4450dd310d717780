-- The current hour of a busy form is updated with every batch.
alter table metrics_form_hours set (fillfactor = 80);
