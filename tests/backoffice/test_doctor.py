"""The doctor and the two probes, against the suite's own services."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client

from backoffice import health
from devtools import processes
from events import store
from metrics.management.commands import doctor


def findings() -> dict[str, dict[str, str]]:
    out = StringIO()
    with pytest.raises(SystemExit):  # the suite's PostgreSQL runs without fsync, which is wrong anywhere else
        call_command("doctor", "--json", stdout=out)
    return {finding["subject"]: finding for finding in json.loads(out.getvalue())}


@pytest.mark.django_db
def test_the_doctor_finds_what_works_and_what_does_not() -> None:
    found = findings()
    assert found["python"]["state"] == found["migrations"]["state"] == found["valkey"]["state"] == "ok"
    assert found["postgres"]["state"] == "wrong"
    assert "fsync off" in found["postgres"]["text"]


@pytest.mark.django_db(transaction=True)
def test_the_doctor_finds_snapshots_that_an_earlier_release_kept_in_the_clear() -> None:
    assert findings()["snapshots"]["state"] == "ok"
    kept = "insert into events_snapshot (stream, version, state_version, state) values ('user-x', 1, 1, %s::jsonb)"
    store.execute(kept, ('{"email": "a@example.org"}',))
    found = findings()["snapshots"]
    assert (found["state"], found["text"][:26]) == ("wrong", "1 hold personal data in th")
    store.execute("delete from events_snapshot where stream = 'user-x'")


@pytest.mark.django_db
def test_the_embedded_server_writes_no_values_into_its_log_and_the_doctor_notices_where_one_may() -> None:
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
def test_the_doctor_says_what_to_do_without_valkey(settings: Any) -> None:
    settings.REDIS_URL = f"redis://127.0.0.1:{processes.free_port()}"
    assert "REDIS_URL" in findings()["valkey"]["text"]


def test_the_doctor_says_when_session_settings_do_not_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.session().state == "ok"
    monkeypatch.setattr(doctor, "_options", lambda: "")  # a pooler between us and PostgreSQL
    found = doctor.session()
    assert found.state == "wrong"
    assert "idle_in_transaction_session_timeout is 0" in found.text


@pytest.mark.django_db(transaction=True)
def test_the_doctor_says_when_an_erasure_is_not_finished() -> None:
    assert findings()["erasures"]["state"] == "ok"
    erased = "insert into events_subject_key (subject, erased_at) values (%s, now() - %s::interval)"
    store.execute(erased, ("user-just-now", "1 minute"))
    assert findings()["erasures"]["state"] == "note"
    store.execute(erased, ("user-long-ago", "2 hours"))
    found = findings()["erasures"]
    assert (found["state"], found["text"][:27]) == ("wrong", "2 erased records wait for t")


@pytest.mark.django_db
def test_ready_means_that_the_database_answers_and_is_migrated(client: Client) -> None:
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")


@pytest.mark.django_db
def test_code_newer_than_its_database_is_not_ready(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "wanted_migrations", lambda: frozenset({("backoffice", "9999_from_tomorrow")}))
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["database"] == "migrations pending"


@pytest.mark.django_db
def test_without_valkey_we_are_ready_and_say_degraded(client: Client, settings: Any) -> None:
    settings.REDIS_URL = f"redis://127.0.0.1:{processes.free_port()}"
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")


def test_without_a_database_we_are_alive_and_not_ready(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = {"host": "127.0.0.1", "port": processes.free_port(), "connect_timeout": 2}
    monkeypatch.setattr(health, "parameters", lambda: nowhere)
    assert client.get("/livez").status_code == 200
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["status"] == "unavailable"
    assert answer.json()["checks"] | {"live": ""} == {
        "database": "unreachable",
        "log": "unknown",
        "valkey": "ok",
        "live": "",
    }


@pytest.mark.django_db
def test_a_probe_by_an_address_that_is_no_host_of_the_site_is_answered(client: Client, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["admin.example.org"]
    assert client.get("/readyz", headers={"host": "10.1.2.3:8000"}).status_code == 200
    assert client.get("/admin/login/", headers={"host": "10.1.2.3:8000"}).status_code == 400


def test_the_doctor_finds_the_browser_that_the_browser_tests_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debian's package of the headless shell is enough."""
    monkeypatch.delenv("CHROMIUM", raising=False)
    shell = tmp_path / "chromium-headless-shell"
    shell.write_text("#!/bin/sh\n")
    shell.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.chromium() == doctor.Finding("chromium", "ok", str(shell))
    monkeypatch.setenv("CHROMIUM", str(tmp_path / "nowhere"))
    assert doctor.chromium().state == "note"
