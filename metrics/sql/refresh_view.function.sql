-- Refresh one of our materialized views: concurrently, so that readers do not wait, or plainly while it has no data,
-- where PostgreSQL refuses the concurrent form.
--
-- A refresh needs the owner's privileges (MAINTAIN exists since PostgreSQL 17 only). Where the application owns no
-- table, it runs this with the privileges of the owner (`events.db.grants`), who refreshes nothing but these views.
create function metrics_refresh_view(p_name text) returns void language plpgsql as $$
declare
    v_populated boolean;
begin
    select relispopulated into v_populated from pg_class
     where relname = p_name and relkind = 'm' and relnamespace = current_schema()::regnamespace
       and p_name ~ '^mv_[a-z_]+(_v[0-9]+)?$';
    if v_populated is null then
        raise undefined_table using message = format('There is no materialized view %s', p_name);
    end if;
    execute format('refresh materialized view %s %I', case when v_populated then 'concurrently' else '' end, p_name);
end $$;
