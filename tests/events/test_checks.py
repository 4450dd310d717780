"""System checks report each fault of the schema or the settings on which the order of the log depends."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO

import psycopg
import pytest
from django.conf import settings
from django.core import checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connection

from events import checks as events_checks
from events.checks import check_durability, check_order
from tests import live
from tests.events import servers

pytestmark = pytest.mark.django_db


def found() -> set[str]:
    return {message.id for message in check_order(databases=["default"])}


def break_with(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def test_migrated_database_passes() -> None:
    assert found() == set()
    assert check_order in checks.registry.registry.get_checks(include_deployment_checks=True)


@pytest.fixture
def ascii_database(transactional_db: None) -> Iterator[None]:
    """An empty database whose encoding is SQL_ASCII, as of a server that was created without a locale."""
    usual = connection.settings_dict["NAME"]
    name = f"{usual}_ascii"
    with psycopg.connect(live.database_url("postgres"), autocommit=True) as server:
        server.execute(
            f"create database {name} encoding 'SQL_ASCII' template template0 locale_provider libc locale 'C'"
        )
    servers.disconnect()
    connection.settings_dict["NAME"] = name
    yield
    servers.disconnect()
    connection.settings_dict["NAME"] = usual
    live.drop_database(name)


def test_database_that_cannot_store_every_text_is_an_error_before_anything_is_created(ascii_database: None) -> None:
    with pytest.raises(SystemCheckError, match="SQL_ASCII, not UTF8"):
        call_command("migrate", verbosity=0, skip_checks=False)
    assert connection.introspection.table_names() == []
    out = StringIO()
    with pytest.raises(SystemExit):
        call_command("doctor", stdout=out)
    assert "the encoding of the database is not UTF8" in out.getvalue()


def test_caching_sequence_is_an_error() -> None:
    break_with("alter sequence events_position_seq cache 20")
    assert found() == {"events.E001"}


def test_trigger_that_a_restore_would_skip_is_an_error() -> None:
    break_with("alter table events_event enable trigger floor_guard")
    assert found() == {"events.E002"}


def test_partition_without_its_triggers_is_an_error() -> None:
    break_with("alter table events_event_p000000000001 disable trigger through_the_log")
    assert found() == {"events.E002"}


def test_repeatable_read_isolation_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(settings.DATABASES["default"]["OPTIONS"], "isolation_level", 3)
    assert found() == {"events.E003"}


def test_log_with_few_free_positions_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        events_checks, "LOW_HEADROOM", 1_000_000_000
    )  # a rollback would not undo a change of the sequence
    assert found() == {"events.W001"}


def test_asynchronous_commit_is_a_deployment_warning() -> None:
    assert [message.id for message in check_durability(databases=["default"])] == [
        "events.W002"
    ]  # as on the suite's server
