-- Records a change to a login that the application did not record: one made by SQL, or by a statement that bypasses
-- models.Staff.save. It runs when the transaction commits, after backoffice/sections/staff/recording.py has noted the events that it
-- appended in a setting of the transaction. Nothing of the password goes into the event.
create function staff_changes() returns trigger language plpgsql as $$
declare
    v_told text := coalesce(current_setting('backoffice.staff_told', true), '');
    v_event record;
begin
    for v_event in
        select w.type, w.data from (values
            ('staff.password_changed', '{}'::jsonb, tg_op = 'UPDATE' and new.password is distinct from old.password),
            ('staff.role_changed',
             jsonb_strip_nulls(jsonb_build_object('before', old.role, 'after', new.role,
                                                  'is_superuser', nullif(new.is_superuser, false))),
             tg_op = 'UPDATE' and (new.role, new.is_superuser) is distinct from (old.role, old.is_superuser)),
            ('staff.deactivated', '{}'::jsonb,
             old.is_active and old.is_staff and (tg_op = 'DELETE' or not (new.is_active and new.is_staff))),
            ('staff.reactivated', '{}'::jsonb,
             tg_op = 'UPDATE' and new.is_active and new.is_staff and not (old.is_active and old.is_staff))
        ) w(type, data, happened)
        where w.happened and position(format(' %s:%s ', old.id, w.type) in v_told) = 0
    loop
        perform events_append_one('staff-' || old.id, null, v_event.type, 1::smallint, v_event.data, gen_random_uuid(),
                                  'database:' || session_user, null, gen_random_uuid(), null, '{}'::jsonb);
    end loop;
    return null;
end $$;
