"""The command `doctor` and the two health probes, against the suite's own services."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from django.core.management import call_command
from django.db import connection
from django.db.backends.postgresql.base import DatabaseWrapper
from django.test import Client

from backoffice import health
from devtools import processes
from events import snapshots, store, valkey
from events.types import new_id
from metrics.management.commands import doctor
from metrics.monitoring import machine
from realtime import local_hub
from tests import services_plugin


def findings() -> dict[str, dict[str, str]]:
    out = StringIO()
    with pytest.raises(SystemExit):  # the suite's PostgreSQL runs without fsync, which is wrong anywhere else
        call_command("doctor", "--json", stdout=out)
    return {finding["subject"]: finding for finding in json.loads(out.getvalue())}


@pytest.mark.django_db
def test_doctor_reports_the_state_of_each_subject() -> None:
    found = findings()
    assert found["python"]["state"] == found["migrations"]["state"] == found["valkey"]["state"] == "ok"
    assert found["postgres"]["state"] == "wrong"
    assert "fsync off" in found["postgres"]["text"]


@pytest.mark.django_db
def test_doctor_reports_the_needs_of_development_only_there(settings: Any) -> None:
    needs = {"embedded", "up", "chromium"}
    assert not needs & findings().keys()
    settings.DEBUG = True
    assert needs <= findings().keys()


@pytest.mark.django_db(transaction=True)
def test_doctor_reports_plain_snapshots_of_an_earlier_release() -> None:
    snapshots.encrypt_plain(1000)  # those of other tests
    assert findings()["snapshots"]["state"] == "ok"
    kept = "insert into events_snapshot (stream, version, state_version, state) values ('user-x', 1, 1, %s::jsonb)"
    store.execute(kept, ('{"email": "a@example.org"}',))
    found = findings()["snapshots"]
    assert (found["state"], found["text"][:26]) == ("wrong", "1 contain personal data in")
    store.execute("delete from events_snapshot where stream = 'user-x'")


@pytest.mark.django_db
def test_embedded_server_logs_no_values_and_doctor_reports_a_server_that_does() -> None:
    assert findings()["server log"]["state"] == "ok"
    name = connection.settings_dict["NAME"]
    try:
        with psycopg.connect(**health.parameters(), autocommit=True) as other:
            other.execute(f'alter database "{name}" set log_error_verbosity = verbose')
        found = findings()["server log"]
        assert found["state"] == "note"
        assert "log_error_verbosity" in found["text"]
    finally:
        with psycopg.connect(**health.parameters(), autocommit=True) as other:
            other.execute(f'alter database "{name}" reset log_error_verbosity')


@pytest.mark.django_db
def test_doctor_names_redis_url_without_valkey(settings: Any) -> None:
    settings.REDIS_URL = f"redis://127.0.0.1:{processes.free_port()}"
    assert "REDIS_URL" in findings()["valkey"]["text"]


@pytest.mark.django_db
def test_doctor_checks_the_server_of_the_queue_where_it_is_another_one(settings: Any) -> None:
    settings.REDIS_QUEUE_URL = "redis://127.0.0.1:1/0"
    found = doctor.valkey()
    assert (found.state, "REDIS_QUEUE_URL" in found.text) == ("wrong", True)
    settings.REDIS_QUEUE_URL = settings.REDIS_URL
    assert doctor.valkey().state == "ok"


def test_doctor_reports_missing_session_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.session().state == "ok"
    monkeypatch.setattr(doctor, "_options", lambda: "")  # a pooler between us and PostgreSQL
    found = doctor.session()
    assert found.state == "wrong"
    assert "idle_in_transaction_session_timeout is 0" in found.text


@pytest.mark.django_db(transaction=True)
def test_doctor_reports_an_unfinished_erasure() -> None:
    assert findings()["erasures"]["state"] == "ok"
    erased = "insert into events_subject_key (subject, erased_at) values (%s, now() - %s::interval)"
    subjects = [f"user-{new_id()}" for _ in range(2)]
    try:
        store.execute(erased, (subjects[0], "1 minute"))
        assert findings()["erasures"]["state"] == "note"
        store.execute(erased, (subjects[1], "2 hours"))
        found = findings()["erasures"]
        assert (found["state"], found["text"][:27]) == ("wrong", "2 erased records wait for t")
    finally:
        store.execute("delete from events_subject_key where subject = any(%s)", (subjects,))


@pytest.mark.django_db
def test_readyz_answers_503_with_pending_migrations(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "wanted_migrations", lambda: frozenset({("backoffice", "9999_from_tomorrow")}))
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["database"] == "migrations pending"


@pytest.mark.django_db
def test_readyz_answers_degraded_without_valkey(client: Client, settings: Any) -> None:
    settings.REDIS_URL = f"redis://127.0.0.1:{processes.free_port()}"
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")


@pytest.fixture
def hung(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], int]]:
    """A Valkey that accepts connections and never answers; returns how many there were since the last call."""
    monkeypatch.setitem(valkey.TIMEOUTS, "bus", 0.05)
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
        server.setblocking(False)
        settings.REDIS_URL = f"redis://127.0.0.1:{server.getsockname()[1]}"

        def accepted() -> int:
            number = 0
            with contextlib.suppress(BlockingIOError):
                while True:
                    server.accept()[0].close()
                    number += 1
            return number

        yield accepted


def test_valkey_that_does_not_answer_is_asked_once_by_readyz_and_twice_by_others(hung: Callable[[], int]) -> None:
    """Each attempt takes the timeout, and an orchestrator waits for the answer of `/readyz` for seconds only."""
    assert health.valkey() == "unreachable"
    assert hung() == 1
    with valkey.client("bus") as client, pytest.raises(redis.RedisError):
        client.ping()
    assert hung() == 2


def test_livez_answers_200_and_readyz_503_without_a_database(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = {"host": "127.0.0.1", "port": processes.free_port(), "connect_timeout": 2}
    monkeypatch.setattr(health, "parameters", lambda: nowhere)
    monkeypatch.setattr(DatabaseWrapper, "pool", None)
    assert client.get("/livez").status_code == 200
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["status"] == "unavailable"
    checks = answer.json()["checks"]
    assert (checks.pop("database"), checks.pop("valkey")) == ("unreachable", "ok")
    checks.pop("live")
    assert set(checks.values()) == {"unknown"}


@pytest.fixture
def limited_role(transactional_db: None) -> Iterator[dict[str, Any]]:
    """Parameters of a login that may have one connection, and has it: PostgreSQL refuses every other."""
    name = f"limited_{services_plugin.worker()}"
    with psycopg.connect(**health.parameters(), autocommit=True) as owner:
        owner.execute(f"create role {name} login connection limit 1 password 'secret'")
        try:
            given = health.parameters() | {"user": name, "password": "secret"}
            with psycopg.connect(**given):
                yield given
        finally:
            owner.execute(f"drop role {name}")


def test_readyz_uses_a_pooled_connection_where_postgresql_has_no_other(
    client: Client, limited_role: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "parameters", lambda: limited_role)
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["checks"]["database"]) == (200, "ok")


def test_readyz_answers_200_where_every_connection_is_in_use(
    client: Client, limited_role: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restart would not help, and other processes have no connection either."""
    monkeypatch.setattr(health, "parameters", lambda: limited_role)
    monkeypatch.setattr(DatabaseWrapper, "pool", None)
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    assert answer.json()["checks"]["database"] == "busy"
    assert health.database() == "busy"


def test_readyz_answers_503_once_the_process_is_about_to_stop(
    client: Client, transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_hub, "_leaving", threading.Event())
    assert client.get("/readyz").status_code == 200
    local_hub.leave()
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["checks"]["live"]) == (503, "draining")


@pytest.mark.django_db
def test_probe_answers_under_any_host_name(client: Client, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["admin.example.org"]
    assert client.get("/readyz", headers={"host": "10.1.2.3:8000"}).status_code == 200
    assert client.get("/admin/login/", headers={"host": "10.1.2.3:8000"}).status_code == 400


def test_doctor_finds_the_browser_of_the_browser_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian's package of the headless shell is enough."""
    monkeypatch.delenv("CHROMIUM", raising=False)
    shell = tmp_path / "chromium-headless-shell"
    shell.write_text("#!/bin/sh\n")
    shell.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.chromium() == doctor.Finding("chromium", "ok", str(shell))
    monkeypatch.setenv("CHROMIUM", str(tmp_path / "nowhere"))
    assert machine.chromium().state == "note"
