"""Finds operations of migrations that break processes of the previous release, which still run during a deploy.

Release N runs beside N-1: its migrations only add (*expand*). What N no longer uses is removed by N+1, in a migration
that declares itself: `contract = True` in its class.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from django.db import migrations
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState
from django.db.models import NOT_PROVIDED, Field

APPS = ("backoffice", "events", "metrics", "realtime")
REMOVING = (
    migrations.DeleteModel,
    migrations.RemoveField,
    migrations.RenameModel,
    migrations.RenameField,
    migrations.AlterModelTable,
)
COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
BODY = re.compile(r"\$(\w*)\$.*?\$\1\$", re.DOTALL)
DESTRUCTIVE = re.compile(
    r"\bdrop\s+(table|column|view|materialized|function|aggregate|type|schema|sequence|constraint|trigger)\b"
    r"|\brename\b|\bset\s+not\s+null\b|\btruncate\b(?!\s+(on|or)\b)|\balter\s+(column\s+)?\w+\s+(set\s+data\s+)?type\b"
    r"|\badd\s+column\s+[^,;]*\bnot\s+null\b(?![^,;]*\bdefault\b)",
    re.IGNORECASE,
)


def destructive() -> dict[str, list[str]]:
    """Maps each migration, as `app.name`, to its destructive operations; contract migrations are left out."""
    loader = MigrationLoader(None)
    found: dict[str, list[str]] = {}
    for app, name in sorted(loader.disk_migrations):
        migration = loader.disk_migrations[app, name]
        if app in APPS and not getattr(migration, "contract", False):
            before = loader.project_state((app, name), at_end=False)
            if faults := list(of_operations(migration.operations, app, before)):
                found[f"{app}.{name}"] = faults
    return found


def of_operations(operations: list[Operation], app: str, state: ProjectState) -> Iterator[str]:
    """The destructive ones of some operations, in words; `state` is that before them and moves on."""
    created: set[str] = set()
    for operation in operations:
        yield from _of_operation(operation, app, state, created)
        operation.state_forwards(app, state)


def _of_operation(operation: Operation, app: str, state: ProjectState, created: set[str]) -> Iterator[str]:
    if isinstance(operation, migrations.SeparateDatabaseAndState):
        yield from of_operations(operation.database_operations, app, state.clone())
    elif isinstance(operation, migrations.RunSQL):
        yield from (f"RunSQL: {words}" for words in of_sql(operation.sql))
    elif isinstance(operation, migrations.CreateModel):
        created.add(operation.name_lower)
    elif isinstance(operation, REMOVING):
        yield operation.describe()
    elif isinstance(operation, migrations.AddField | migrations.AlterField):
        if operation.model_name_lower in created:
            return
        if isinstance(operation, migrations.AddField):
            if _must_be_given(operation.field):
                yield f"{operation.describe()}: not null, and without db_default"
        else:
            before = state.models[app, operation.model_name_lower].fields[operation.name]
            yield from (f"{operation.describe()}: {why}" for why in _narrower(before, operation.field))


def of_sql(sql: Any) -> list[str]:
    """The destructive words of the statements of a `RunSQL`. Bodies of functions run later, so they do not count."""
    parts = sql if isinstance(sql, list | tuple) else [sql]
    texts = (part if isinstance(part, str) else part[0] for part in parts)
    return [found[0] for text in texts for found in DESTRUCTIVE.finditer(BODY.sub("", COMMENT.sub("", text)))]


def _must_be_given(field: Field[Any, Any]) -> bool:
    """Whether an insert that does not know the column fails: Django drops a default once the column exists."""
    return not (field.null or field.many_to_many or field.db_default is not NOT_PROVIDED)


def _narrower(before: Field[Any, Any], after: Field[Any, Any]) -> Iterator[str]:
    if before.null and _must_be_given(after):
        yield "not null"
    if before.get_internal_type() != after.get_internal_type():
        yield "another type"
    if after.max_length is not None and (before.max_length or 10**9) > after.max_length:
        yield "shorter"
