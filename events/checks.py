"""System checks of the database: the schema and settings that the order and the safety of the log depend on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import psycopg
from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import DatabaseError, connection
from django.db import Error as DatabaseFailure
from django.db.migrations.loader import MigrationLoader

from events import errors, partitions
from events.db import grants
from events.privacy import key_witness, master_keys

SEQUENCE = """
select increment_by, cache_size, cycle from pg_sequences
 where schemaname = current_schema() and sequencename = 'events_position_seq'
"""

TRIGGERS = """
select w.name from unnest(array['floor_guard', 'append_only', 'no_truncate']) w(name)
 where to_regclass('events_event') is not null and not exists (
       select 1 from pg_trigger t
        where t.tgrelid = to_regclass('events_event') and t.tgname = w.name and t.tgenabled = 'A')
"""

PARTITIONS = """
select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
 where i.inhparent = to_regclass('events_event') and (
       select count(*) from pg_trigger t
        where t.tgrelid = c.oid and t.tgenabled = 'A'
          and t.tgname in ('no_truncate', 'through_the_log', 'append_only')) < 3
"""

HEADROOM = f"""
select max(high) - coalesce(pg_sequence_last_value('events_position_seq'), 0) from ({partitions.BOUNDS}) p
"""  # noqa: S608 - BOUNDS is a constant

LOW_HEADROOM = 2_000_000


@register(Tags.database)
def check_order(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[CheckMessage]:  # noqa: ARG001
    """Checks sequence, triggers, free positions and master keys, also before each `migrate`.

    By hand: `manage.py check --database default`.
    """
    if not kwargs.get("databases"):
        return []
    try:
        return list(_messages())
    except DatabaseError:
        return []  # not migrated yet, or not reachable: other checks report that


SHOWN = 5  # names in a message at most


@register(Tags.database, deploy=True)
def check_deployment(
    app_configs: Sequence[AppConfig] | None = None,  # noqa: ARG001
    **kwargs: Any,
) -> list[CheckMessage]:
    """`manage.py check --deploy --database default`: the database answers, is migrated, and this role may use it.

    The other checks say nothing about a database that they cannot read, because `migrate` runs them on an empty one.
    """
    if not kwargs.get("databases"):
        return []
    try:
        pending = _pending_migrations()
        lacks = [] if pending else grants.missing()
    except (DatabaseFailure, psycopg.Error, errors.EventsError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        hint = "See DATABASE_URL and, for permissions, grant_application in docs/operations.md."
        return [Error(f"The database cannot be read: {reason}", hint=hint, id="events.E008")]
    if pending:
        return [Error(f"Migrations are not applied: {_some(pending)}.", hint="Run migrate.", id="events.E009")]
    if lacks:
        hint = "As the owner of the tables, run grant_application after each migrate."
        return [Error(f"The application's role lacks: {_some(lacks)}.", hint=hint, id="events.E010")]
    return []


def _pending_migrations() -> list[str]:
    loader = MigrationLoader(connection)
    return [".".join(key) for key in sorted(loader.graph.nodes) if key not in loader.applied_migrations]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"


DURABILITY = "select current_setting('fsync') = 'on' and current_setting('synchronous_commit') <> 'off'"


@register(Tags.database, deploy=True)
def check_durability(
    app_configs: Sequence[AppConfig] | None = None,  # noqa: ARG001
    **kwargs: Any,
) -> list[CheckMessage]:
    """`manage.py check --deploy --database default`: warns when a commit does not wait for the disk."""
    if not kwargs.get("databases"):
        return []
    try:
        with connection.cursor() as cursor:
            cursor.execute(DURABILITY)
            durable = cursor.fetchone()[0]
    except DatabaseError:
        return []
    if durable:
        return []
    message = "The database does not wait for the disk: a crash loses events that were acknowledged and read."
    return [Warning(message, hint="Set fsync and synchronous_commit to on.", id="events.W002")]


MAY_CHANGE = """
select has_table_privilege('events_event', 'UPDATE') or has_table_privilege('events_event', 'DELETE')
       or has_table_privilege('events_event', 'TRUNCATE')
"""


@register(Tags.database, deploy=True)
def check_rights(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[CheckMessage]:  # noqa: ARG001
    """`manage.py check --deploy --database default`: warns when this role may change stored events."""
    if not kwargs.get("databases"):
        return []
    try:
        with connection.cursor() as cursor:
            cursor.execute(MAY_CHANGE)
            may = cursor.fetchone()[0]
    except DatabaseError:
        return []
    if not may:
        return []
    message = "The application's role may change stored events: only triggers prevent that, and it may switch them off."
    return [Warning(message, hint="See grant_application in docs/operations.md.", id="events.W003")]


def _messages() -> Iterable[CheckMessage]:
    isolation = settings.DATABASES["default"].get("OPTIONS", {}).get("isolation_level")
    if isolation is not None and int(isolation) != 2:
        yield Error(
            "The log must be read in READ COMMITTED: with one snapshot for all statements, events would be skipped.",
            hint="Remove isolation_level from the database's OPTIONS.",
            id="events.E003",
        )
    with connection.cursor() as cursor:
        yield from _encoding(cursor)
        yield from _sequence(cursor)
        yield from _triggers(cursor)
        yield from _headroom(cursor)
        yield from _master_keys(cursor)


def _encoding(cursor: Any) -> Iterable[CheckMessage]:
    cursor.execute("show server_encoding")
    (encoding,) = cursor.fetchone()
    if encoding != "UTF8":
        yield Error(
            f"The encoding of the database is {encoding}, not UTF8: it cannot store or return every text.",
            hint="Create it anew: create database … encoding 'UTF8' template template0.",
            id="events.E011",
        )


def _sequence(cursor: Any) -> Iterable[CheckMessage]:
    cursor.execute(SEQUENCE)
    found = cursor.fetchone()
    if found is not None and tuple(found) != (1, 1, False):
        yield Error(
            "The sequence of positions must have increment 1, cache 1 and no cycle: readers rely on its order.",
            hint="alter sequence events_position_seq increment 1 cache 1 no cycle",
            id="events.E001",
        )


def _triggers(cursor: Any) -> Iterable[CheckMessage]:
    for statement in (TRIGGERS, PARTITIONS):
        cursor.execute(statement)
        for (name,) in cursor.fetchall():
            yield Error(
                f"A trigger that protects the log is missing or not ENABLE ALWAYS: {name}.",
                hint="See events/sql/triggers.sql and events/sql/partition.function.sql.",
                id="events.E002",
            )


def _headroom(cursor: Any) -> Iterable[CheckMessage]:
    cursor.execute("select to_regclass('events_event') is not null")
    if not cursor.fetchone()[0]:
        return
    cursor.execute(HEADROOM)
    left = cursor.fetchone()[0]
    if left is not None and left < LOW_HEADROOM:
        yield Warning(
            f"Only {left:,} free positions are left in the log.",
            hint="Is Celery beat running? events.tasks.create_partitions adds partitions ahead of time.",
            id="events.W001",
        )


def _master_keys(cursor: Any) -> Iterable[CheckMessage]:
    cursor.execute("select to_regclass('events_master_key') is not null")
    if not cursor.fetchone()[0]:
        return

    def run(statement: str) -> Sequence[Sequence[Any]]:
        cursor.execute(statement)
        rows: Sequence[Sequence[Any]] = cursor.fetchall()
        return rows

    for key in key_witness.statuses(run):
        if key.state == "missing":
            yield Error(
                f"PRIVACY_KEYS lacks the key {key.key_id!r}, which personal data is encrypted with. "
                "That data cannot be read.",
                hint="Restore it at the end of PRIVACY_KEYS; manage.py rotate_keys makes it superfluous.",
                id="events.E004",
            )
        elif key.state == "wrong":
            yield Error(
                f"The key {key.key_id!r} of PRIVACY_KEYS decrypts {key.opened} of {key.tried} texts encrypted under "
                "this id: personal data cannot be read, and writing it is refused.",
                hint=f"Restore the right key under {key.key_id!r}; a new key needs an id of its own.",
                id="events.E007",
            )
        elif key.key_id != master_keys.current():
            yield Warning(
                f"Some personal data is still encrypted under the master key {key.key_id!r}.",
                hint="Run manage.py rotate_keys; then the key can be removed from PRIVACY_KEYS.",
                id="events.W004",
            )
