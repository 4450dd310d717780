"""`check --deploy --database default` fails where migrations or privileges are missing, or a key is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connection

from events import store
from events.checks import check_deployment, check_order
from events.db import grants
from tests import factories, services_plugin

pytestmark = pytest.mark.django_db


def found() -> list[str]:
    return [f"{message.id} {message.msg}" for message in check_deployment(databases=["default"])]


@pytest.fixture
def application() -> Iterator[str]:
    """A role with the privileges of the application; the connection switches to it with `set role`."""
    role = f"checked_{services_plugin.worker()}"
    with connection.cursor() as cursor:
        cursor.execute(f"create role {role}")
        grants.grant(role)
        yield role
        cursor.execute("reset role")


def test_ready_installation_passes(application: str) -> None:
    assert found() == []
    store.execute(f"set local role {application}")
    assert found() == []


def test_pending_migration_is_an_error() -> None:
    store.execute("delete from django_migrations where (app, name) = ('events', '0001_initial')")
    assert found() == ["events.E009 Migrations are not applied: events.0001_initial."]


def test_empty_database_is_an_error() -> None:
    store.execute("create schema nothing_yet", ())
    store.execute("set local search_path = nothing_yet")
    (message,) = found()
    assert message.startswith("events.E009 Migrations are not applied: ")
    assert check_order(databases=["default"]) == [], "migrate runs this one on an empty database"


@pytest.mark.parametrize(
    ("revoked", "missing"),
    [
        ("insert on events_event", "insert on events_event"),
        ("select, delete on events_command", "delete on events_command, select on events_command"),
        ("usage on sequence events_position_seq", "usage on events_position_seq"),
        ("execute on function events_partition(bigint, bigint)", "execute on events_partition(bigint, bigint)"),
    ],
)
def test_missing_privilege_is_an_error(application: str, revoked: str, missing: str) -> None:
    store.execute(f"revoke {revoked} from {application}")
    store.execute(f"set local role {application}")
    assert found() == [f"events.E010 The application's role lacks: {missing}."]


def test_role_without_any_privilege_is_an_error() -> None:
    role = f"stranger_{services_plugin.worker()}"
    store.execute(f"create role {role}")
    store.execute(f"set local role {role}")
    (message,) = found()
    assert message == "events.E008 The database cannot be read: permission denied for table django_migrations"


def test_command_fails_on_a_wrong_master_key(settings: Any) -> None:
    factories.user()
    settings.PRIVACY_KEYS = {name: bytes(range(32)) for name in settings.PRIVACY_KEYS}
    with pytest.raises(SystemCheckError, match=r"events\.E007"):
        call_command("check", deploy=True, databases=["default"], stderr=StringIO(), stdout=StringIO())


def test_nothing_is_asked_without_a_database() -> None:
    assert check_deployment() == []
