-- The location of this log: cluster, timeline, database and table. A dump that was loaded, a standby that was promoted
-- and a backup that was recovered to a point in time all differ in one of them.
create function events_place() returns text language sql stable as $$
    select concat_ws(' ', (select system_identifier from pg_control_system()),
                     left(pg_walfile_name(pg_current_wal_insert_lsn()), 8),
                     (select oid from pg_database where datname = current_database()), 'events_event'::regclass::oid)
$$;
