-- Refuses new forms of deleted users. The users are locked against a deletion until the end of the transaction, and
-- read after that: a concurrent deletion waits for us, or we see it. Users that do not exist
-- are left to the foreign key, erased ones to their keys.
create function backoffice_owner_living(p_users uuid[]) returns void language plpgsql as $$
begin
    perform 1 from users u where u.id = any(p_users) order by u.id for share;
    if exists (select 1 from users u
                where u.id = any(p_users) and u.deleted_at is not null and u.erased_at is null) then
        raise check_violation using message = 'The owner was deleted.', constraint = 'forms_owner_living';
    end if;
end $$;
