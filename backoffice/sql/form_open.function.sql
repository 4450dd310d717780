-- Refuses submissions to forms whose owner is deleted, that are deleted or (unless p_archived) archived. As in
-- backoffice_owner_living, the rows are locked first and looked at afterwards. Users before forms, as an erasure does it:
-- else each could wait for the other.
create function backoffice_form_open(p_forms uuid[], p_archived boolean) returns void language plpgsql as $$
begin
    perform backoffice_owner_living(array(
        select distinct f.user_id from forms f where f.id = any(p_forms) and f.erased_at is null));
    perform 1 from forms f where f.id = any(p_forms) order by f.id for share;
    if exists (select 1 from forms f
                where f.id = any(p_forms) and f.deleted_at is not null and f.erased_at is null) then
        raise check_violation using message = 'The form was deleted.', constraint = 'submissions_form_living';
    end if;
    if not p_archived and exists (select 1 from forms f
                where f.id = any(p_forms) and f.archived and f.erased_at is null) then
        raise check_violation using message = 'The form is archived.', constraint = 'submissions_form_open';
    end if;
end $$;
