#!/bin/sh
# Creates the roles and the database of an installation: run once, as a superuser, on an empty server. In the image of
# PostgreSQL it lies in /docker-entrypoint-initdb.d; elsewhere: PGHOST=… PGUSER=postgres sh roles.sh
#
#   formease_owner   owns the database; migrates, archives, rebuilds. No superuser
#   formease_app     the application. May append to the log, but not change it (manage.py grant_application)
set -eu

: "${DATABASE_OWNER_PASSWORD:?}" "${DATABASE_APP_PASSWORD:?}"

psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --dbname postgres <<'SQL'
\getenv owner_password DATABASE_OWNER_PASSWORD
\getenv app_password DATABASE_APP_PASSWORD
-- createrole: only so that grant_application can give formease_app its session settings.
create role formease_owner login createrole password :'owner_password';
create role formease_app login password :'app_password';
grant formease_app to formease_owner with admin option;
-- The metrics count the sessions of others; pg_read_all_stats shows no data.
grant pg_read_all_stats to formease_app, formease_owner;
create database formease owner formease_owner;
revoke connect on database formease from public;
grant connect, temporary on database formease to formease_app;
SQL
