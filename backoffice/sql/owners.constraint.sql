-- Immediate, unlike Django's own foreign keys: a command must learn at once, and by name, that an owner does not exist.
alter table forms add constraint forms_user_id_exists foreign key (user_id) references users (id);
alter table submissions add constraint submissions_form_id_exists foreign key (form_id) references forms (id);
