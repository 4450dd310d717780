-- Refuses an address that another living user has under an older spelling. New addresses are stored in their normal form,
-- so that the unique index on `email` tells them apart; `mailbox` is the normal form of an older one, else null.
-- p_emails and p_ids are parallel. A null address stands for the one the user has: somebody is restored.
-- The rows are locked before they are read: a second transaction waits, and sees the changes of the first.
create function backoffice_mailbox_free(p_emails text[], p_ids uuid[]) returns void language plpgsql as $$
begin
    perform 1 from users u join unnest(p_emails, p_ids) as w(email, id) on u.id = w.id
      where w.email is null order by u.id for update of u;
    perform 1 from users u
      where u.mailbox is not null and u.mailbox = any(p_emails) order by u.id for share of u;
    perform 1
       from (select coalesce(w.email, r.mailbox, r.email) as mailbox, w.id, w.email is null as restored
               from unnest(p_emails, p_ids) as w(email, id) left join users r on r.id = w.id and w.email is null) w
      where exists (select 1 from users u where u.mailbox = w.mailbox and u.deleted_at is null and u.id <> w.id)
         or w.restored and exists (
                select 1 from users u where u.email = w.mailbox and u.deleted_at is null and u.id <> w.id);
    if found then
        raise unique_violation using message = 'Another user has this mailbox.', constraint = 'users_mailbox_once';
    end if;
end $$;
