"""A private migrated database for a test that reads or damages the whole log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

from events.privacy import subject_keys
from tests import live


@contextmanager
def own_database(template: str) -> Iterator[str]:
    """Connect this process to a copy of `template` until the block ends; yields the name of the copy."""
    usual = connection.settings_dict["NAME"]
    name = f"{usual}_own"
    live.copy_database(template, name)
    _use(name)
    try:
        yield name
    finally:
        _use(usual)
        live.drop_database(name)


def _use(name: str) -> None:
    connection.close()
    connection.close_pool()
    connection.settings_dict["NAME"] = name
    subject_keys.CACHE.clear()
