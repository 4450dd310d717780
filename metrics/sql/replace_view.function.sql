-- Put a filled successor (mv_x_v2) in the place of a view (mv_x), with the names of its indexes; the replaced view
-- becomes mv_x_old until the next replacement. Only catalogue rows change, so readers wait for milliseconds.
create function metrics_replace_view(p_name text, p_successor text) returns void language plpgsql as $$
declare
    v_index record;
begin
    if p_name !~ '^mv_[a-z_]+$' or left(p_successor, length(p_name) + 2) <> p_name || '_v' then
        raise invalid_name using message = format('%s is no successor of %s', p_successor, p_name);
    end if;
    execute format('drop materialized view if exists %I', p_name || '_old');
    for v_index in select c.relname as name from pg_index i join pg_class c on c.oid = i.indexrelid
                    where i.indrelid = to_regclass(quote_ident(p_name))
    loop
        execute format('alter index %I rename to %I', v_index.name,
                       p_name || '_old' || substr(v_index.name, length(p_name) + 1));
    end loop;
    execute format('alter materialized view %I rename to %I', p_name, p_name || '_old');
    for v_index in select c.relname as name from pg_index i join pg_class c on c.oid = i.indexrelid
                    where i.indrelid = to_regclass(quote_ident(p_successor))
    loop
        execute format('alter index %I rename to %I', v_index.name,
                       p_name || substr(v_index.name, length(p_successor) + 1));
    end loop;
    execute format('alter materialized view %I rename to %I', p_successor, p_name);
end $$;
