-- Deferred: it judges a transaction as a whole. Only changes of recorded columns fire it, not a sign-in.
create constraint trigger staff_changes
    after delete or update of password, role, is_superuser, is_active, is_staff on staff
    deferrable initially deferred for each row execute function staff_changes();
