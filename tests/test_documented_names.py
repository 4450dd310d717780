"""Names in the documentation exist: tests, Python objects, SQL functions, system checks and settings."""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from django.apps import apps

PROJECT = Path(__file__).resolve().parent.parent
# The changelog uses the names of each release.
DOCUMENTS = [
    path for path in sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md")]) if path.stem != "CHANGELOG"
]
CODE = re.compile(r"`([^`\n]+)`")
PACKAGES = ("events", "realtime", "backoffice", "metrics")
DOTTED = re.compile(rf"(?:{'|'.join(PACKAGES)})(?:\.[a-z_]\w*)+(?:\.[A-Z]\w+)?")
SETTINGS_TABLE = re.compile(r"^## Configuration$(.*?)^## ", re.MULTILINE | re.DOTALL)


def in_code(pattern: str) -> Iterator[tuple[Path, str]]:
    """All matches of a pattern inside the code spans of the documentation, with their pages."""
    for document in DOCUMENTS:
        for span in CODE.findall(document.read_text()):
            for found in re.findall(pattern, span):
                yield document, found


def resolves(name: str) -> bool:
    """True when a dotted name leads to a module, or to an attribute of one."""
    found: object = importlib.import_module(name.partition(".")[0])
    for part in name.split(".")[1:]:
        if not hasattr(found, part) and isinstance(found, ModuleType):
            try:
                importlib.import_module(f"{found.__name__}.{part}")
            except ImportError:
                return False
        if not hasattr(found, part):
            return False
        found = getattr(found, part)
    return True


@functools.cache
def sql_names() -> frozenset[str]:
    """The names of tables and functions in the SQL files and in the models."""
    text = "".join(path.read_text() for path in PROJECT.glob("*/sql/*.sql"))
    return frozenset(re.findall(r"\w+", text)) | {model._meta.db_table for model in apps.get_models()}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_documented_python_name_resolves(package: str) -> None:
    # `events.E001` is a system check, `events.py` a file.
    names = {name for _, span in in_code(rf"(?<![\w/.-]){package}\.[\w.]+") for name in DOTTED.findall(span)}
    assert sorted(name for name in names if not resolves(name) and not name.endswith(".py")) == []


def test_every_documented_test_exists() -> None:
    defined = "".join(path.read_text() for path in (PROJECT / "tests").rglob("*.py"))
    names = {name for _, name in in_code(r"^test_\w+$")}
    assert sorted(name for name in names if f"def {name}(" not in defined) == []


def test_every_documented_sql_name_exists() -> None:
    names = {name for _, name in in_code(r"^(events_\w+)(?:\(.*\))?$")}
    assert names, "the documentation names tables and functions of the log"
    assert sorted(names - sql_names()) == []


def test_every_documented_system_check_exists() -> None:
    sources = "".join(path.read_text() for package in PACKAGES for path in (PROJECT / package).rglob("checks.py"))
    names = {name for _, name in in_code(rf"(?:{'|'.join(PACKAGES)})\.[EW]\d{{3}}")}
    assert sorted(name for name in names if f'"{name}"' not in sources) == []


def test_every_documented_environment_variable_is_read() -> None:
    page = (PROJECT / "docs" / "operations.md").read_text()
    table = SETTINGS_TABLE.search(page)
    assert table is not None
    variables = set(re.findall(r"^\| `([A-Z_]+)` \|", table[1], re.MULTILINE))
    sources = "".join(
        path.read_text() for package in (*PACKAGES, "devtools") for path in (PROJECT / package).rglob("*.py")
    )
    assert variables
    assert sorted(name for name in variables if f'"{name}"' not in sources) == []
