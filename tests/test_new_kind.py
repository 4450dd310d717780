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
SUBMISSIONS = "backoffice.sections.submissions.section"
NOTES = "backoffice.sections.notes.section"
LENGTHS = "metrics.note_lengths.section"

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


def declare(project: Path, section: str, after: str) -> None:
    """Add a section to the settings: one line."""
    settings = project / "backoffice/settings.py"
    text, line = settings.read_text(encoding="utf-8"), f'    "{after}",\n'
    assert text.count(line) == 1
    settings.write_text(text.replace(line, f'{line}    "{section}",\n'), encoding="utf-8")


def run_tests(project: Path, *paths: str) -> None:
    data = project.parent / "data"
    data.mkdir(exist_ok=True)
    run(
        project,
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *paths),
        FORMEASE_TEST_FOLDER=str(data),
        PYTEST_XDIST_WORKER="notes",
        DATABASE_URL=live.database_url(f"notes_{os.getpid()}"),
    )


def project_with_notes(folder: Path) -> Path:
    project = copy_of_the_project(folder)
    shutil.copytree(PROJECT / "tests/new_kind/notes", project / "backoffice/sections/notes")  # the folder
    declare(project, NOTES, after=SUBMISSIONS)  # the line
    run(project, "manage.py", "makemigrations", "backoffice", "--name", "notes")
    return project


def add_note_lengths(project: Path) -> None:
    lengths = PROJECT / "tests/new_kind/note_lengths"
    shutil.copytree(lengths, project / "metrics/note_lengths")
    shutil.copytree(lengths / "templates", project / "templates/admin/backoffice/note_lengths")
    declare(project, LENGTHS, after="metrics.section")


def test_one_folder_and_one_line_add_a_kind_which_a_higher_section_extends_without_being_imported(
    tmp_path: Path,
) -> None:
    """Both are tested in one run of pytest, because each run migrates a database of its own."""
    project = project_with_notes(tmp_path / "project")
    run(project, "manage.py", "check")
    add_note_lengths(project)
    for scenes, name in (("scenes", "test_notes"), ("extension_scenes", "test_note_lengths")):
        shutil.copy(PROJECT / f"tests/new_kind/{scenes}.py", project / f"tests/realtime/{name}.py")
    run_tests(project, "tests/realtime/test_notes.py", "tests/realtime/test_note_lengths.py", "tests/test_layers.py")
