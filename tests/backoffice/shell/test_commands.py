"""Management commands: an event for what they change, and one line for what is no error of the program."""

from __future__ import annotations

import os
import subprocess
import sys
from io import StringIO
from typing import Any

import psycopg
import pytest
import redis
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import ProgrammingError

from backoffice import command_errors, health
from devtools import processes
from events import errors, store
from tests import factories, live, services_plugin


def manage(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=live.PROJECT,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "backoffice.settings"} | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.django_db
def test_createsuperuser_leaves_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", live.PASSWORD)
    call_command("createsuperuser", username="root", email="root@example.org", interactive=False, stdout=StringIO())
    login = get_user_model().objects.get(username="root")
    (event,) = store.read_stream(f"staff-{login.pk}")
    assert (event.type, event.actor) == ("staff.created", "command:createsuperuser")
    assert event.data == {"username": "root", "role": "viewer", "is_superuser": True}


@pytest.mark.django_db
def test_refused_createsuperuser_leaves_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", live.PASSWORD)
    before = store.query("select count(*) from events_event")
    for _ in range(2):
        try:
            call_command("createsuperuser", username="root", email="", interactive=False, stdout=StringIO())
        except CommandError:
            break
    assert store.query("select count(*) from events_event")[0][0] == before[0][0] + 1


def test_database_that_does_not_answer_is_one_line() -> None:
    done = manage("showmigrations", DATABASE_URL=f"postgres://nobody:secret@127.0.0.1:{processes.free_port()}/none")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("database: ")
    assert done.stderr.count("\n") == 1
    assert "secret" not in done.stderr


def test_login_that_the_database_refuses_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "parameters", lambda given=health.parameters: given() | {"dbname": "no_such_database"})
    line = command_errors.explanation(errors.StoreUnavailable("couldn't get a connection after 10.00 sec"))
    assert line is not None
    assert "no_such_database" in line
    assert line.endswith("DATABASE_URL has the login and the name of the database.")


@pytest.mark.django_db
def test_remove_event_without_a_terminal_removes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    factories.user()
    position = store.query("select max(position) from events_event")[0][0]
    monkeypatch.setattr(sys, "stdin", StringIO())
    with pytest.raises(CommandError, match="without a terminal, confirm with --no-input"):
        call_command("remove_event", str(position), reason="asked by the court")
    assert store.query("select type from events_event where position = %s", (position,)) == [("user.created",)]


@pytest.mark.django_db
def test_rebuild_as_the_application_role_is_one_line() -> None:
    from events.db import grants

    role = f"rebuilder_{services_plugin.worker()}"
    store.execute(f"create role {role}")
    grants.grant(role)
    store.execute(f"set local role {role}")
    with pytest.raises((psycopg.Error, ProgrammingError, CommandError)) as refused:
        call_command("rebuild_projection", "users", json=True)
    line = command_errors.explanation(refused.value) or str(refused.value)
    assert "its owner runs rebuild_projection users" in line
    assert "\n" not in line


def test_wrong_password_of_valkey_is_one_line() -> None:
    url = os.environ["REDIS_URL"]
    with (
        pytest.raises(redis.RedisError) as refused,
        redis.Redis.from_url(url, username="x", password="secret") as client,
    ):
        client.ping()
    line = command_errors.explanation(refused.value)
    assert line is not None
    assert line.endswith("Is it running, and is the password of REDIS_URL right?")
    assert "secret" not in line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (EOFError(), "run it in a terminal, or with --no-input"),
        (redis.ConnectionError("Error 111 connecting to localhost:1. Connection refused."), "Valkey: Error 111"),
        (psycopg.errors.UndefinedTable('relation "x" does not exist\nLINE 1: select'), "does not exist. Run migrate."),
        (errors.StoreUnavailable("The database does not answer."), "DATABASE_URL names another"),
    ],
)
def test_error_of_a_service_is_explained(error: Exception, line: str) -> None:
    found: Any = command_errors.explanation(error)
    assert line in found
    assert "\n" not in found


@pytest.mark.parametrize("error", [ValueError("x"), psycopg.errors.UniqueViolation("x"), KeyError("x")])
def test_error_of_the_program_keeps_its_traceback(error: Exception) -> None:
    assert command_errors.explanation(error) is None
