"""Privileges of an application role that does not own its tables: everything but changing stored events.

The owner migrates, archives, rebuilds read tables and removes events. The application's role reads, appends and updates
its bookkeeping. Without UPDATE, DELETE, TRUNCATE and ownership none of its statements can change a stored event.

Some operations of the running application need an owner, so they are functions with the owner's privileges: adding
partitions, dropping copies of read tables that hold erased data, and those that higher layers register
(`extension.run_as_owner`). Ownership, or membership in the owner's role, would permit everything; a function permits
only what it does.
"""

from __future__ import annotations

from typing import Final

import psycopg
from django.db import transaction

from events import extension, store
from events.db import session

# Privileges on tables of the store; `ALL` on every table that is not listed.
PRIVILEGES: Final = {
    "events_event": "select, insert",
    "events_seal": "select, insert",
    "events_archive": "select",
    "events_stream": "select, insert, update",
    "events_epoch": "select, update",
    "events_epoch_history": "select, insert, update",
    "events_rebuild": "select, update",
    "events_subject_key": "select, insert, update",
    "events_master_key": "select, insert",
    "events_shredding": "select, update",
    "django_migrations": "select",
}
ALL: Final = "select, insert, update, delete"

# Functions that run with the owner's privileges.
FUNCTIONS: Final = ("events_partition(bigint, bigint)", "events_discard_copies(timestamptz)")

# Without partitions: a privilege on a partition would bypass the log's triggers.
TABLES = """
select quote_ident(c.relname) from pg_class c
 where c.relnamespace = current_schema()::regnamespace and c.relkind in ('r', 'p', 'v', 'm') and not c.relispartition
 order by 1
"""

# Each function with its schema, which need not be the current one.
LOCATED = """
select f.name, p.pronamespace::regnamespace::text
  from unnest(%s::text[]) as f(name) left join pg_proc p on p.oid = to_regprocedure(f.name)
"""

NAMES = "select quote_ident(%s), quote_ident(current_schema()), quote_ident(current_database())"


def grant(role: str) -> list[str]:
    """Grant a role exactly these privileges on all current tables, and its session settings; returns the statements.

    To be repeated after each `migrate`. Where the current role may not change settings of another role, those
    statements are returned as comments.
    """
    name, schema, database = store.query(NAMES, (role,))[0]
    functions = store.query(LOCATED, ([*FUNCTIONS, *extension.owner_functions],))
    made = [
        f"revoke all on all tables in schema {schema} from {name}",
        f"revoke create on schema {schema} from {name}",
        f"grant usage on schema {schema} to {name}",
        f"grant usage, select on all sequences in schema {schema} to {name}",
        *(f"grant {PRIVILEGES.get(table, ALL)} on {table} to {name}" for (table,) in store.query(TABLES)),
        *(statement for function, home in functions for statement in _as_owner(function, name, home)),
    ]
    with transaction.atomic():
        for statement in made:
            store.execute(statement)
    return [*made, *_with_settings(name, database)]


# Of the current role; a table, sequence or function that does not exist yet is no missing privilege.
MISSING_ON_TABLES = """
select p.privilege || ' on ' || w.name
  from unnest(%s::text[], %s::text[]) as w(name, wanted)
 cross join lateral unnest(string_to_array(w.wanted, ', ')) as p(privilege)
 where not has_table_privilege(w.name, p.privilege) order by 1
"""
MISSING_ON_SEQUENCES = """
select 'usage on ' || quote_ident(relname) from pg_class
 where relnamespace = current_schema()::regnamespace
   and case relkind when 'S' then not has_sequence_privilege(oid, 'usage') else false end
 order by 1
"""
MISSING_ON_FUNCTIONS = """
select 'execute on ' || f.name from unnest(%s::text[]) as f(name)
 where to_regprocedure(f.name) is not null and not has_function_privilege(f.name, 'execute')
"""


def missing() -> list[str]:
    """The privileges of `grant` that the current role lacks, such as ``insert on events_event``."""
    tables = [name for (name,) in store.query(TABLES)]
    wanted = [PRIVILEGES.get(table, ALL) for table in tables]
    functions = [*FUNCTIONS, *extension.owner_functions]
    rows = [
        *store.query(MISSING_ON_TABLES, (tables, wanted)),
        *store.query(MISSING_ON_SEQUENCES),
        *store.query(MISSING_ON_FUNCTIONS, (functions,)),
    ]
    return [text for (text,) in rows]


def _with_settings(role: str, database: str) -> list[str]:
    wanted = [
        f"alter role {role} in database {database} set {name} = '{value}'" for name, value in session.SETTINGS.items()
    ]
    try:
        with transaction.atomic():
            for statement in wanted:
                store.execute(statement)
    except psycopg.errors.InsufficientPrivilege:
        return [f"-- for a superuser: {statement}" for statement in wanted]
    return wanted


def _as_owner(function: str, role: str, schema: str) -> list[str]:
    """Statements that let `role` run a function as its owner.

    The search path names `pg_temp` last: unnamed it would come first, and the role could shadow a table that the
    function uses with a temporary one.
    """
    return [
        f"alter function {function} security definer set search_path = {schema}, pg_temp",
        f"revoke execute on function {function} from public",
        f"grant execute on function {function} to {role}",
    ]
