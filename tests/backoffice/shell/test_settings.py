"""Environment variables: a malformed value ends the process with one line, before anything starts."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from devtools import processes
from tests import live

SETTINGS = live.PROJECT / "backoffice" / "settings.py"
KEY = "2026:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
PRODUCTION = {
    "DEBUG": "0",
    "SECRET_KEY": "k" * 40,
    "PRIVACY_KEYS": KEY,
    "ALLOWED_HOSTS": "admin.example.org",
    "DATABASE_URL": "postgres://me:hunter2@db:5432/backoffice",
    "REDIS_URL": "redis://:hunter2@valkey:6379/0",
}

# variable -> malformed values; DEBUG=1 unless the value is a pair (value, the rest of the environment)
MALFORMED: dict[str, list[Any]] = {
    "DEBUG": ["maybe", "2", "-1"],
    "DATA_DIR": ["/dev/null", "/dev/null/below", "x" * 5000],
    "ARCHIVE_DIR": ["/dev/null", "x" * 5000],
    "PORT": ["abc", "0", "-1", "65536", "8000.0", "1_000", "٣", "9" * 30],
    "PROMETHEUS_MULTIPROC_DIR": ["/dev/null", "/nowhere/at/all"],
    "SECRET_KEY": [("short", PRODUCTION), ("", PRODUCTION), "\udcff" * 40],
    "PRIVACY_KEYS": ["foo", "2026:short", f"{KEY},{KEY}", ("", PRODUCTION)],
    "ALLOWED_HOSTS": ["https://admin.example.org", "admin.example.org:8000", "a b", "-", ("", PRODUCTION)],
    "ALLOWED_ORIGINS": ["admin.example.org", "ftp://a", "https://", "https://a/b", "https://a:99999", "https://a?b"],
    "DATABASE_URL": [
        "foo",
        "sqlite:///db.sqlite3",
        "mysql://a/b",
        "postgres://host",
        "postgres://host:port/name",
        "postgres://host:0/name",
        "postgres://host:99999/name",
        "postgres://me:hunter2@host/name?sslmod=require",
        "postgres://me:hunter2@host/name?sslmode=maybe",
        "postgres://[::1/name",
        "postgres://me:hunter2@one:5432,two/name",
        "postgres://one,,two/name",
        "postgres://one:5432,two:99999/name",
        ("", PRODUCTION),
    ],
    "DATABASE_READ_URL": ["foo", "postgres://host", "postgres://me:hunter2@host/name?sslmod=require"],
    "CACHE_MEMORY_MIB": ["0", "-1", "64M", "70000"],
    "DATABASE_POOL": ["0", "-3", "many", "1001"],
    "REDIS_URL": [
        "foo",
        "http://host",
        "redis://",
        "redis://host:port",
        "redis://host:99999",
        "redis://host/zero",
        "redis://host/-1",
        "redis://:hunter2@host/0?socket_timeout=soon",
        "redis://:hunter2@host/0?sokcet_timeout=5",
        "unix://",
        "redis://[::1",
        "sentinel://one,two",
        "sentinel://:hunter2@one:0,two/fe",
        "sentinel://one/fe/zero",
        "sentinel://one/fe?sentinel_pasword=hunter2",
    ],
    "REDIS_QUEUE_URL": ["foo", "redis://", "sentinel://one"],
    "REDIS_PREFIX": ["a b", "*", "x" * 65, "é"],
    "SECURE_SSL_REDIRECT": ["maybe"],
    "SECURE_HSTS_SECONDS": ["-1", "long", "1e9"],
    "WORKER_STOP_SECONDS": ["-1", "soon", "0.5", "86401"],
    "API_RATE_PER_MINUTE": ["-5", "fast", "0.5", "1000001"],
    "API_COMMANDS_PER_MINUTE": ["-5", "fast", "0.5", "10000001"],
    "LIST_STATEMENT_SECONDS": ["0", "-1", "fast", "0.5", "601"],
    "METRICS_ALLOWED_NETWORKS": ["everywhere", "10.0.0.0/33", "10.0.0.1/8"],
    "SITE_URL": ["admin.example.org", "ftp://admin.example.org", "https://", "https://host:port", "https://[::1"],
    "EMAIL_URL": ["mail.example.org", "http://mail", "smtp://", "smtp+tls://me:hunter2@mail:port", "smtp://[::1"],
    "EMAIL_FROM": ["formease", "a@", "a@b\nBcc: c@d"],
    "ALERT_ALLOWED_NETWORKS": ["everywhere", "10.0.0.0/33", "10.0.0.1/8"],
    "ALERT_DENIED_NETWORKS": ["everywhere", "10.0.0.0/33", "10.0.0.1/8"],
    "ALERT_CA_FILE": ["/nowhere/authority.pem", "/"],
    "ALERT_FALLBACK_URL": ["hooks.example.org/hunter2", "smtp://hunter2", "https:///hunter2", "https://h:x/hunter2"],
    "ALERT_HEARTBEAT_URL": ["hooks.example.org/hunter2", "smtp://hunter2", "https:///hunter2", "https://h:x/hunter2"],
    "TRUSTED_PROXIES": ["-1", "10", "some"],
    "OFFLINE": ["sometimes"],
    "PROCESS_REPORTS": ["sometimes"],
    "LOG_LEVEL": ["LOUD", "10", "IN FO"],
    "LOG_FORMAT": ["xml", "json lines"],
    "ACCESS_LOG": ["sometimes"],
    "STATIC_SHARED_DIR": ["/dev/null", "/dev/null/deeper"],
}
# Free text, or checked by one command, which reports the error itself.
ELSEWHERE = {"SERVICE_NAME"}


def read(monkeypatch: pytest.MonkeyPatch, folder: Path, **variables: str) -> dict[str, Any]:
    """Returns the settings for exactly these variables."""
    for name in {*MALFORMED, *ELSEWHERE}:
        monkeypatch.delenv(name, raising=False)
    for name, value in {"DATA_DIR": str(folder), **variables}.items():
        monkeypatch.setenv(name, value)
    return runpy.run_path(str(SETTINGS), run_name="settings_under_test")


@pytest.mark.parametrize(
    ("name", "value", "rest"),
    [
        pytest.param(name, *(case if isinstance(case, tuple) else (case, {})), id=f"{name}-{number}")
        for name, cases in MALFORMED.items()
        for number, case in enumerate(cases)
    ],
)
def test_malformed_value_ends_with_one_line_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str, rest: dict[str, str]
) -> None:
    with pytest.raises(SystemExit) as end:
        read(monkeypatch, tmp_path, **{**rest, name: value})
    message = str(end.value.code)
    assert re.match(rf"configuration: {name}\b", message)
    assert len(message.splitlines()) == 1
    assert "hunter2" not in message  # no secret is shown


def test_every_variable_has_malformed_values_in_the_table() -> None:
    source = SETTINGS.read_text()
    known = set(re.findall(r'read\(\s*"([A-Z_]+)"', source)) | set(
        re.findall(r'environ(?:\.get\(|\[)"([A-Z_]+)"', source)
    )
    assert known - ELSEWHERE == set(MALFORMED)


@pytest.mark.parametrize(
    "variables",
    [
        {},
        PRODUCTION,
        PRODUCTION | {"REDIS_URL": "unix:///run/valkey.sock", "DATABASE_URL": "postgresql://me@/name?host=/run/pg"},
        PRODUCTION | {"REDIS_URL": "rediss://valkey", "DATABASE_URL": "postgres://[::1]:5432/n?sslmode=verify-full"},
        PRODUCTION | {"ALLOWED_HOSTS": ".example.org, [::1],*", "ALLOWED_ORIGINS": "https://a.example.org:8443"},
        {"LOG_LEVEL": "warning", "OFFLINE": "off", "PORT": " 9000 ", "API_RATE_PER_MINUTE": "0"},
        # An empty variable is unset, like an unfilled line of .env.
        dict.fromkeys([name for name in MALFORMED if name != "DATA_DIR"], ""),
    ],
)
def test_valid_values_are_accepted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variables: dict[str, str]) -> None:
    assert read(monkeypatch, tmp_path, **variables)["DATABASES"]


def test_several_hosts_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    address = "postgres://me:s@one:5432,two:5433/n"
    found = read(monkeypatch, tmp_path, **PRODUCTION | {"DATABASE_URL": address, "DATABASE_READ_URL": "postgres://r/n"})
    database, standby = found["DATABASES"]["default"], found["DATABASES"]["replica"]
    assert (database["HOST"], database["PORT"]) == ("one,two", "5432,5433")
    assert database["OPTIONS"]["target_session_attrs"] == "read-write"
    assert (standby["HOST"], standby["USER"]) == ("r", "")
    assert "target_session_attrs" not in standby["OPTIONS"]
    read_only = " -c default_transaction_read_only=on"
    assert standby["OPTIONS"]["options"] == database["OPTIONS"]["options"] + read_only
    assert found["DATABASE_ROUTERS"] == ["events.db.replica.Router"]


def test_queue_has_a_server_of_its_own_where_one_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    addresses = {"REDIS_URL": "redis://bus/0", "REDIS_QUEUE_URL": "sentinel://:p@one,two/queue"}
    found = read(monkeypatch, tmp_path, **PRODUCTION | addresses)
    assert found["CELERY_BROKER_URL"] == "sentinel://:p@one:26379/0;sentinel://:p@two:26379/0"
    assert found["CELERY_BROKER_TRANSPORT_OPTIONS"]["master_name"] == "queue"
    assert found["CACHES"]["default"]["LOCATION"] == "redis://bus/0"
    assert read(monkeypatch, tmp_path, **PRODUCTION)["CELERY_BROKER_URL"] == PRODUCTION["REDIS_URL"]


def test_secret_that_looks_like_a_reference_is_not_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret = "$" + "k" * 40
    assert read(monkeypatch, tmp_path, **PRODUCTION | {"SECRET_KEY": secret})["SECRET_KEY"] == secret


@pytest.mark.services
@pytest.mark.parametrize(
    ("options", "variables", "status", "line"),
    [
        ([], {"DATABASE_URL": "foo"}, 1, "configuration: DATABASE_URL must be an address such as postgres://"),
        ([], {"LOG_LEVEL": "LOUD"}, 1, "configuration: LOG_LEVEL='LOUD' is not one of DEBUG, INFO, WARNING"),
        ([], {"DATABASE_POOL": "-1"}, 1, "configuration: DATABASE_POOL='-1' is not a whole number from 1 to 1000"),
        ([], {"POSTGRES_BIN": "/nowhere"}, 1, "CommandError: /nowhere contains no program postgres: set POSTGRES_BIN"),
        (["--host", "192.0.2.1"], {}, 1, "CommandError: 192.0.2.1 is not an address of this machine"),
        (["--host", "no host"], {}, 1, "CommandError: no host is not a host name or an address"),
    ],
)
def test_start_with_invalid_configuration_ends_before_anything_runs(
    tmp_path: Path, options: list[str], variables: dict[str, str], status: int, line: str
) -> None:
    clean = {name: value for name, value in os.environ.items() if name not in MALFORMED}
    done = subprocess.run(
        [sys.executable, "manage.py", "up", *options],
        cwd=live.PROJECT,
        env=clean | {"DATA_DIR": str(tmp_path / "data"), "PORT": str(processes.free_port())} | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    output = [text for text in (done.stdout + done.stderr).splitlines() if text]
    assert (done.returncode, len(output)) == (status, 1), output
    assert output[0].startswith(line)
    assert not (tmp_path / "data" / "postgres").exists()


@pytest.mark.parametrize("port", ["abc", "-1", "65536"])
@pytest.mark.parametrize("program", [["-m", "realtime.server"], ["manage.py", "up"]])
def test_port_on_the_command_line_is_checked(program: list[str], port: str) -> None:
    done = subprocess.run(
        [sys.executable, *program, f"--port={port}"], cwd=live.PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert f"'{port}' is not a port number" in done.stderr
