"""What the application may do, when it is not the owner of its tables: everything but change what happened.

The owner migrates, archives, rebuilds read tables and removes events; the application's role reads, appends and keeps
its books. Without UPDATE, DELETE, TRUNCATE and ownership none of its statements can touch a stored event.

Two things that only an owner can do come up while it serves, and are functions that run with the owner's rights: making
room in the log, and dropping copies of read tables that hold what was erased. Ownership of the tables, or membership in
the role that has it, would be a right to everything; a function is a right to what it does.
"""

from __future__ import annotations

from typing import Final

import psycopg
from django.db import transaction

from events import store
from events.db import session

# Tables of the store that are not like all others. No key here: select, insert, update and delete.
RIGHTS: Final = {
    "events_event": "select, insert",
    "events_seal": "select, insert",
    "events_archive": "select",
    "events_stream": "select, insert, update",
    "events_epoch": "select, update",
    "events_rebuild": "select, update",
    "events_subject_key": "select, insert, update",
    "events_master_key": "select, insert",
    "events_shredding": "select, update",
    "django_migrations": "select",
}
ALL: Final = "select, insert, update, delete"

# What the role may do as the owner.
FUNCTIONS: Final = ("events_partition(bigint, bigint)", "events_discard_copies(timestamptz)")

# Partitions are reached through the log: a right of its own on one would be a way around it.
TABLES = """
select quote_ident(c.relname) from pg_class c
 where c.relnamespace = current_schema()::regnamespace and c.relkind in ('r', 'p', 'v', 'm') and not c.relispartition
 order by 1
"""

NAMES = "select quote_ident(%s), quote_ident(current_schema()), quote_ident(current_database())"


def grant(role: str) -> list[str]:
    """Give a role exactly these rights, on all tables there are now, and the settings of its sessions; returns the
    statements. After each `migrate`.

    Only some roles may set those of another: where ours may not, the statements are returned as comments.
    """
    name, schema, database = store.query(NAMES, (role,))[0]
    made = [
        f"revoke all on all tables in schema {schema} from {name}",
        f"revoke create on schema {schema} from {name}",
        f"grant usage on schema {schema} to {name}",
        f"grant usage, select on all sequences in schema {schema} to {name}",
        *(f"grant {RIGHTS.get(table, ALL)} on {table} to {name}" for (table,) in store.query(TABLES)),
        *(statement for function in FUNCTIONS for statement in _as_owner(function, name, schema)),
    ]
    with transaction.atomic():
        for statement in made:
            store.execute(statement)
    return [*made, *_with_settings(name, database)]


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
    """Temporary tables come last: unnamed they would come first, and the role could put one of its own in the place of
    a table that the function means.
    """
    return [
        f"alter function {function} security definer set search_path = {schema}, pg_temp",
        f"revoke execute on function {function} from public",
        f"grant execute on function {function} to {role}",
    ]
