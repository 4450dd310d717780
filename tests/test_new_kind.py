"""A new kind of record needs one folder and one line of settings; tested in a copy of the project."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import live

PROJECT = Path(__file__).resolve().parent.parent
PARTS = ("backoffice", "events", "realtime", "metrics", "devtools", "templates", "locale", "tests", "docs")
NOTES = "backoffice.sections.notes.section"
AFTER = '    "backoffice.sections.submissions.section",\n'

pytestmark = pytest.mark.services


def copy_of_the_project(folder: Path) -> Path:
    for name in PARTS:
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("manage.py", "pyproject.toml"):
        shutil.copy(PROJECT / name, folder / name)
    return folder


def run(folder: Path, *arguments: str, **env: str) -> None:
    """Run a Python program in the copy; fail with its output when it fails."""
    left_out = ("FORMEASE_TEST_VALKEY", "PYTEST_ADDOPTS", "PYTEST_CURRENT_TEST")
    shared = {name: value for name, value in os.environ.items() if name not in left_out}
    found = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=shared | {"PYTHONPATH": str(folder)} | env,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert found.returncode == 0, found.stdout[-8000:] + found.stderr[-4000:]


def test_one_folder_and_one_line_add_a_kind_of_record(tmp_path: Path) -> None:
    project = copy_of_the_project(tmp_path / "project")
    shutil.copytree(PROJECT / "tests/new_kind/notes", project / "backoffice/sections/notes")  # the folder
    settings = project / "backoffice/settings.py"
    text = settings.read_text(encoding="utf-8")
    assert text.count(AFTER) == 1
    settings.write_text(text.replace(AFTER, f'{AFTER}    "{NOTES}",\n'), encoding="utf-8")  # the line
    run(project, "manage.py", "makemigrations", "backoffice", "--name", "notes")
    shutil.copy(PROJECT / "tests/new_kind/scenes.py", project / "tests/realtime/test_notes.py")
    (tmp_path / "data").mkdir()
    run(
        project,
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "tests/realtime/test_notes.py"),
        FORMEASE_TEST_FOLDER=str(tmp_path / "data"),
        PYTEST_XDIST_WORKER="notes",
        DATABASE_URL=live.database_url(f"notes_{os.getpid()}"),
    )
    run(
        project,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "tests/test_layers.py",
        FORMEASE_TEST_FOLDER=str(tmp_path / "data"),
        PYTEST_XDIST_WORKER="notes",
    )
