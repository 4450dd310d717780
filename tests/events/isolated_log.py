"""A log in a schema of its own, with small partitions; tests commit changes to it, then it is dropped."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from django.db import connection

from events import migrations, sql
from events.privacy import subject_keys

SCHEMA = "tampered"


@contextmanager
def own_log(size: int = 5, upto: int = 20) -> Iterator[None]:
    """The event store in a schema of its own, which is migrated and first in the search path."""
    execute(f"create schema {SCHEMA}", f"set search_path = {SCHEMA}, public")
    for name in sorted(module.name for module in pkgutil.iter_modules(migrations.__path__)):
        execute(*(sql.read(file) for file in getattr(migration(name), "FORWARD", ())))
    execute("update events_epoch set place = events_place()", f"select events_partition({upto}, {size})")
    subject_keys.CACHE.clear()  # cached keys of an earlier log whose streams had the same names
    try:
        yield
    finally:
        connection.rollback()
        execute(f"drop schema {SCHEMA} cascade", "reset search_path")


def migration(name: str) -> Any:
    return import_module(f"events.migrations.{name}")


def execute(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
