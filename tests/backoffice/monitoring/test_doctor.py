"""The command `doctor` and the two health probes, against the suite's own services."""

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
def test_doctor_reports_the_state_of_each_subject() -> None:
    found = findings()
    assert found["python"]["state"] == found["migrations"]["state"] == found["valkey"]["state"] == "ok"
    assert found["postgres"]["state"] == "wrong"
    assert "fsync off" in found["postgres"]["text"]


@pytest.mark.django_db(transaction=True)
def test_doctor_reports_plain_snapshots_of_an_earlier_release() -> None:
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
    store.execute(erased, ("user-just-now", "1 minute"))
    assert findings()["erasures"]["state"] == "note"
    store.execute(erased, ("user-long-ago", "2 hours"))
    found = findings()["erasures"]
    assert (found["state"], found["text"][:27]) == ("wrong", "2 erased records wait for t")


@pytest.mark.django_db
def test_readyz_answers_200_with_a_migrated_database(client: Client) -> None:
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")


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


def test_livez_answers_200_and_readyz_503_without_a_database(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
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
        "views": "unknown",
    }


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
    assert doctor.chromium() == doctor.Finding("chromium", "ok", str(shell))
    monkeypatch.setenv("CHROMIUM", str(tmp_path / "nowhere"))
    assert doctor.chromium().state == "note"
