#!/bin/sh
# Creates the roles and the database of an installation, as a superuser; what exists is kept, but gets these passwords.
# In the image of PostgreSQL it lies in /docker-entrypoint-initdb.d; elsewhere: PGHOST=… PGUSER=postgres sh roles.sh
#
#   formease_owner   owns the database; migrates, archives, rebuilds. No superuser
#   formease_app     the application. May append to the log, but not change it (manage.py grant_application)
set -eu

: "${DATABASE_OWNER_PASSWORD:?}" "${DATABASE_APP_PASSWORD:?}"

psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --dbname postgres <<'SQL'
\getenv owner_password DATABASE_OWNER_PASSWORD
\getenv app_password DATABASE_APP_PASSWORD
-- createrole: only so that grant_application can give formease_app its session settings.
select 'create role formease_owner login createrole'
 where not exists (select from pg_roles where rolname = 'formease_owner') \gexec
select 'create role formease_app login'
 where not exists (select from pg_roles where rolname = 'formease_app') \gexec
alter role formease_owner password :'owner_password';
alter role formease_app password :'app_password';
grant formease_app to formease_owner with admin option;
-- The metrics count the sessions of others; pg_read_all_stats shows no data.
grant pg_read_all_stats to formease_app, formease_owner;
-- From template0, because the other templates may have another encoding.
select 'create database formease owner formease_owner encoding ''UTF8'' template template0'
 where not exists (select from pg_database where datname = 'formease') \gexec
revoke connect on database formease from public;
grant connect, temporary on database formease to formease_app;
SQL
