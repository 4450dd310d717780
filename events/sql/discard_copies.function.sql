-- Drop the copies of rebuilds that were begun before an erasure, and old tables that their swaps left: they hold erased
-- data. Returns the number of schemas dropped. Their builders have been stopped (`cancellation.stop`).
--
-- Where the application owns no table, it runs this with the owner's privileges (`events.db.grants`), which must not
-- allow it to drop anything else. So a row of events_rebuild, which the application may change, is not trusted: a
-- schema is dropped only if its comment says that a rebuild made it, and only a schema's owner can write that. A
-- table in use is never in such a schema: the swap moves tables in and out in the transaction that records it.
create function events_discard_copies(p_before timestamptz) returns int language plpgsql as $$
declare
    v_name text;
    v_schema text;
    v_gone int := 0;
begin
    for v_name in select name from events_rebuild
                   where phase <> 'done' and started_at < p_before order by name for update
    loop
        foreach v_schema in array array['rebuild_' || v_name, 'rebuild_' || v_name || '_old'] loop
            continue when to_regnamespace(quote_ident(v_schema)) is null;
            if obj_description(to_regnamespace(quote_ident(v_schema)), 'pg_namespace')
               is distinct from 'copy of a rebuild' then
                raise exception 'The schema % was not made by a rebuild', v_schema
                    using hint = 'If it is an unfinished copy of an earlier version, its owner may drop it.';
            end if;
            execute format('drop schema %I cascade', v_schema);
            v_gone := v_gone + 1;
        end loop;
    end loop;
    return v_gone;
end $$;
