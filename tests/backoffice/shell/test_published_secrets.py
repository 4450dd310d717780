"""The configuration refuses published secrets."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[3]
GOOD = {
    "DEBUG": "0",
    "SECRET_KEY": "k" * 20 + "0123456789-0123456789",
    "PRIVACY_KEYS": "a:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    "ALLOWED_HOSTS": "admin.example.org",
    "DATABASE_URL": "postgres://nobody@localhost/none",
}


def start(**changes: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", "import backoffice.settings"]
    environment = {"PATH": os.environ["PATH"], **GOOD, **changes}
    return subprocess.run(program, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)


def test_private_secrets_are_accepted() -> None:
    assert start().returncode == 0


@pytest.mark.parametrize(
    "published",
    [
        {"SECRET_KEY": "only-for-this-build-step-never-used-again"},
        {"PRIVACY_KEYS": "build:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="},
        {"PRIVACY_KEYS": f"{GOOD['PRIVACY_KEYS']},old:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="},
        {"PRIVACY_KEYS": "x:" + "QUFB" * 10 + "QUE="},
        {"SECRET_KEY": "only-for-this-build-step-never-used-again", "DEBUG": "1"},
    ],
)
def test_published_secret_is_reported_in_one_line(published: dict[str, str]) -> None:
    refused = start(**published)
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"configuration: {next(iter(published))}")
    assert "published example" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_image_is_built_without_a_secret_in_the_recipe() -> None:
    recipe = (PROJECT / "Dockerfile").read_text(encoding="utf-8")
    given = re.findall(r"(?:SECRET_KEY|PRIVACY_KEYS)=(\S+)", recipe)
    assert len(given) == 2
    assert all("$(head" in value for value in given)
