"""The files of `deploy/` and docker-compose.yml: valid, complete, and restricted where they can be."""

from __future__ import annotations

import configparser
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import psycopg
import pytest
import yaml
from django.conf import settings as django_settings

from realtime import server
from tests.events import servers

PROJECT = Path(__file__).resolve().parents[2]
DEPLOY = PROJECT / "deploy"
VARIABLE = re.compile(r"^#?([A-Z][A-Z0-9_]+)=(.*)$", re.MULTILINE)


def variables() -> dict[str, str]:
    """The variables of .env.example, also those in a comment."""
    return dict(VARIABLE.findall((PROJECT / ".env.example").read_text()))


def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((PROJECT / "docker-compose.yml").read_text()))


def application_services() -> dict[str, Any]:
    return {name: one for name, one in compose()["services"].items() if "build" in one}


# -- .env.example -----------------------------------------------------------------------------------------------------


def test_example_has_comments_on_lines_of_their_own() -> None:
    """systemd would take a comment behind a value for a part of it."""
    assert [name for name, value in variables().items() if " #" in value] == []


def test_example_has_every_secret_empty_so_that_compose_refuses_to_start() -> None:
    text = (PROJECT / "docker-compose.yml").read_text()
    for name in re.findall(r"\$\{([A-Z_]+):\?", text):
        assert variables()[name] == ("admin.example.org" if name == "SITE_ADDRESS" else ""), name


def test_every_variable_of_the_example_is_documented() -> None:
    documented = (PROJECT / "docs" / "operations.md").read_text()
    outside = {
        "POSTGRES_PASSWORD",
        "DATABASE_OWNER_PASSWORD",
        "DATABASE_APP_PASSWORD",
        "VALKEY_PASSWORD",
        "SITE_ADDRESS",
    }
    assert [name for name in variables().keys() - outside if f"`{name}`" not in documented] == []


# -- compose ----------------------------------------------------------------------------------------------------------


def test_compose_file_is_valid() -> None:
    schema = json.loads((PROJECT / "tests" / "deployment" / "compose_schema.json").read_text())
    jsonschema.Draft7Validator(schema).validate(compose())


@pytest.mark.parametrize(
    "change",
    [
        {"services": {"web": {"image": "x", "helthcheck": {}}}},
        {"services": {"web": {"image": "x", "restart": "sometimes"}}},
        {"services": {"web": {"image": "x", "stop_grace_period": "35"}}},
        {"services": {"web": {"image": "x", "volumes": ["/data"]}}},
        {"services": {"web": {"command": ["x"]}}},
        {"services": {}, "volume": {}},
    ],
)
def test_schema_refuses_a_typing_error(change: Any) -> None:
    schema = json.loads((PROJECT / "tests" / "deployment" / "compose_schema.json").read_text())
    assert not jsonschema.Draft7Validator(schema).is_valid(change)


def test_all_services_share_one_volume_for_archives_and_static_files() -> None:
    for name, service in application_services().items():
        assert service["volumes"] == ["data:/data"], name
    image = (PROJECT / "Dockerfile").read_text()
    assert "DATA_DIR=/data" in image
    assert not re.search(r"^VOLUME", image, re.MULTILINE), "each container would get a volume of its own"


def test_only_the_migrations_connect_as_the_owner_and_nothing_as_a_superuser() -> None:
    logins = {
        name: re.search(r"postgres://(\w+):\$\{(\w+)", service["environment"]["DATABASE_URL"]).groups()  # type: ignore[union-attr]
        for name, service in application_services().items()
    }
    assert logins.pop("migrate") == ("formease_owner", "DATABASE_OWNER_PASSWORD")
    assert set(logins.values()) == {("formease_app", "DATABASE_APP_PASSWORD")}
    assert "POSTGRES_USER" not in compose()["services"]["db"]["environment"], "its superuser keeps its usual name"


def test_no_process_of_the_application_has_the_password_of_another_role() -> None:
    """`env_file` passes everything in .env on; the environment of a service replaces it."""
    passwords = [name for name in variables() if name.endswith("_PASSWORD") and name != "DEMO_PASSWORD"]
    assert len(passwords) == 4
    for name, service in application_services().items():
        assert [service["environment"].get(password) for password in passwords] == [""] * 4, name


def test_services_have_time_to_stop() -> None:
    seconds = server.DRAIN_SECONDS + server.REQUEST_SECONDS
    delay = int(re.search(r"SHUTDOWN_DELAY=(\d+)", (PROJECT / "Dockerfile").read_text())[1])  # type: ignore[index]
    grace = int(compose()["services"]["web"]["stop_grace_period"].removesuffix("s"))
    assert grace > delay + seconds
    text = (DEPLOY / "systemd" / "formease-web@.service").read_text()
    assert int(re.search(r"TimeoutStopSec=(\d+)", text)[1]) > int(re.search(r"SHUTDOWN_DELAY=(\d+)", text)[1]) + seconds  # type: ignore[index]
    (web,) = [one for one in objects() if (one["kind"], one["metadata"]["name"]) == ("Deployment", "web")]
    settings = next(one for one in objects() if one["kind"] == "ConfigMap")["data"]
    given = web["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert given > int(settings["SHUTDOWN_DELAY"]) + seconds


def test_worker_has_time_to_return_its_tasks() -> None:
    """It would otherwise be killed, and its tasks would stay hidden."""
    unit_seconds = re.search(r"TimeoutStopSec=(\d+)", (DEPLOY / "systemd" / "formease-worker.service").read_text())
    given = [
        int(unit_seconds[1]) if unit_seconds else 0,
        {"1m": 60}[compose()["services"]["worker"]["stop_grace_period"]],
        pods()["worker"]["terminationGracePeriodSeconds"],
    ]
    assert min(given) >= django_settings.WORKER_STOP_SECONDS + 20


@pytest.fixture(scope="module")
def roles() -> Iterator[str]:
    """The URL of a server on which deploy/postgres/roles.sh has run, with `{role}` for the login."""
    with servers.server("roles") as postgres:
        with psycopg.connect(postgres.url("postgres"), autocommit=True) as superuser:  # a server without a locale
            superuser.execute("update pg_database set encoding = 0 where datname = 'template1'")
        for _ in range(2):  # a restore on the same server runs it again
            subprocess.run(
                ["sh", str(DEPLOY / "postgres" / "roles.sh")],
                env={
                    "PATH": f"{postgres.program.parent}:{os.environ['PATH']}",
                    "PGHOST": str(postgres.sockets),
                    "PGUSER": "backoffice",
                    "DATABASE_OWNER_PASSWORD": "owner's",
                    "DATABASE_APP_PASSWORD": "application",
                },
                check=True,
            )
        yield f"postgresql://{{role}}@/formease?host={postgres.sockets}"


def test_roles_are_no_superusers_and_the_owner_may_prepare_everything(roles: str) -> None:
    with psycopg.connect(roles.format(role="formease_owner"), autocommit=True) as owner:
        assert owner.execute("show server_encoding").fetchone() == ("UTF8",)
        assert owner.execute("select rolsuper, rolcreatedb from pg_roles where rolname = current_user").fetchall() == [
            (False, False)
        ]
        owner.execute("create extension unaccent")  # as a migration does
        owner.execute("create table kept (x int)")
        owner.execute("alter role formease_app in database formease set lock_timeout = '15s'")
        owner.execute("grant usage on schema public to formease_app")
    with psycopg.connect(roles.format(role="formease_app"), autocommit=True) as application:
        assert application.execute("show lock_timeout").fetchone() == ("15s",)
        assert application.execute("select pg_has_role('pg_read_all_stats', 'usage')").fetchone() == (True,)
        application.execute("create temporary table y ()")  # as a concurrent refresh of a materialized view does
        for statement in (
            "create table x (y int)",
            "create schema x",
            "drop table kept",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                application.execute(statement)


# -- systemd ----------------------------------------------------------------------------------------------------------

UNITS = sorted((DEPLOY / "systemd").glob("*.service"))


def unit(path: Path) -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(strict=False, interpolation=None, comment_prefixes=("#",))
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read_string(path.read_text())
    return parsed


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_unit_is_restricted_and_reads_the_configuration(path: Path) -> None:
    service = unit(path)["Service"]
    wanted = {
        "User": "formease",
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "PrivateDevices": "yes",
        "CapabilityBoundingSet": "",
        "SystemCallFilter": "@system-service",
        "StateDirectory": "formease",
    }
    assert {name: service[name] for name in wanted} == wanted
    assert "EnvironmentFile=/etc/formease/formease.env" in path.read_text()
    assert "DATA_DIR=/var/lib/formease" in path.read_text()


def environment(text: str, option: str) -> dict[str, str]:
    """The variables that `option` sets in a unit or a script."""
    found = re.findall(rf"{option}((?:\w+=\S+ ?)+)", text)
    return dict(one.split("=", 1) for line in found for one in line.split())


def test_command_line_runs_with_the_settings_of_the_services() -> None:
    text = (DEPLOY / "systemd" / "formease-manage").read_text()
    service = environment((DEPLOY / "systemd" / "formease-subscriptions.service").read_text(), "\nEnvironment=")
    manage = environment(text, "--setenv ")
    assert manage.keys() == service.keys() - {"SHUTDOWN_DELAY"}
    assert {name for name in manage if manage[name] != service[name]} == {"SERVICE_NAME"}
    for part in (
        "--uid formease",
        "EnvironmentFile=/etc/formease/formease.env",
        "owner=EnvironmentFile=/etc/formease/owner.env",
    ):
        assert part in text
    subprocess.run(["sh", "-n", str(DEPLOY / "systemd" / "formease-manage")], check=True)


def test_target_starts_a_unit_of_every_process() -> None:
    target = (DEPLOY / "systemd" / "formease.target").read_text()
    wanted = set(re.findall(r"formease-[\w-]+(?=@\d+\.service|\.service)", target))
    assert wanted == {path.stem.rstrip("@") for path in UNITS} - {"formease-migrate"}
    ports = re.findall(r"web@(\d+)", target)
    assert ports == re.findall(r"server 127\.0\.0\.1:(\d+)", (DEPLOY / "nginx.conf").read_text())


# -- Kubernetes -------------------------------------------------------------------------------------------------------

MANIFESTS = sorted((DEPLOY / "kubernetes").rglob("*.yaml"))


def objects() -> list[dict[str, Any]]:
    files = [path for path in MANIFESTS if path.name != "kustomization.yaml"]
    return [dict(one) for path in files for one in yaml.safe_load_all(path.read_text())]


def pods() -> dict[str, dict[str, Any]]:
    return {
        one["metadata"]["name"]: one["spec"]["template"]["spec"]
        for one in objects()
        if one["kind"] in {"Deployment", "Job"}
    }


def test_kustomization_lists_every_manifest() -> None:
    for path in MANIFESTS:
        if path.name == "kustomization.yaml":
            listed = set(yaml.safe_load(path.read_text())["resources"])
            assert listed == {one.name for one in path.parent.glob("*.yaml")} - {path.name, "secrets.example.yaml"}


def test_manifests_have_every_process() -> None:
    assert pods().keys() == {"web", "worker", "subscriptions", "beat", "migrate"}


@pytest.mark.parametrize("name", ["web", "worker", "subscriptions", "beat", "migrate"])
def test_pod_meets_the_restricted_standard(name: str) -> None:
    pod = pods()[name]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]
    assert {"name": "data", "mountPath": "/data"} in container["volumeMounts"]
    sources = [next(iter(source.values()))["name"] for source in container["envFrom"]]
    assert sources == ["formease", "formease"] + (["formease-owner"] if name == "migrate" else [])


def test_web_pod_has_probes_and_time_to_leave_the_service() -> None:
    (container,) = pods()["web"]["containers"]
    paths = {
        probe: container[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert paths == {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
    assert container["lifecycle"]["preStop"]["exec"]["command"][0] == "sleep"
    (web,) = [one for one in objects() if (one["kind"], one["metadata"]["name"]) == ("Deployment", "web")]
    assert web["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    kinds = {one["kind"] for one in objects()}
    assert kinds >= {"PodDisruptionBudget", "HorizontalPodAutoscaler", "NetworkPolicy", "Service", "Ingress"}


def test_selectors_match_labels() -> None:
    for one in objects():
        if one["kind"] == "Deployment":
            assert one["spec"]["selector"]["matchLabels"] == one["spec"]["template"]["metadata"]["labels"]


def test_manifests_name_every_variable_of_the_example() -> None:
    text = "".join((DEPLOY / "kubernetes" / name).read_text() for name in ("config.yaml", "secrets.example.yaml"))
    assert [name for name in variables() if not re.search(rf"\b{name}\b", text)] == []


def test_no_secret_is_in_the_config_map() -> None:
    from backoffice.environment import SECRETS

    settings = next(one for one in objects() if one["kind"] == "ConfigMap")["data"]
    assert not settings.keys() & SECRETS
    assert {type(value) for value in settings.values()} == {str}
