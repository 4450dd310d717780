"""Names in the documentation exist: tests, Python objects, SQL functions, system checks and settings."""

from __future__ import annotations

import contextlib
import functools
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from django.apps import apps

from backoffice.celery import app as celery
from events import types
from metrics.counters import updates
from metrics.monitoring import metric_types
from realtime import topics

PROJECT = Path(__file__).resolve().parent.parent
# The changelog uses the names of each release.
DOCUMENTS = [
    path for path in sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md")]) if path.stem != "CHANGELOG"
]
CODE = re.compile(r"`([^`\n]+)`")
PACKAGES = ("events", "realtime", "backoffice", "metrics")
FILES = ("py", "js", "mjs", "sql", "md", "html", "css", "json", "jsonl", "yaml", "csv", "txt", "toml")
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
            with contextlib.suppress(ImportError):
                importlib.import_module(f"{found.__name__}.{part}")
        if not hasattr(found, part):
            return False
        found = getattr(found, part)
    return True


@functools.cache
def modules() -> dict[str, list[str]]:
    """The modules by their last name, and those of a package by the package's name."""
    found: dict[str, list[str]] = {}
    for package in PACKAGES:
        for path in (PROJECT / package).rglob("*.py"):
            *folders, stem = path.relative_to(PROJECT).with_suffix("").parts
            if "migrations" in folders or "management" in folders:
                continue
            for name in {stem, folders[-1]}:
                found.setdefault(name, []).append(".".join((*folders, stem)).removesuffix(".__init__"))
    return found


@functools.cache
def sql_names() -> frozenset[str]:
    """The names of tables and functions in the SQL files and in the models."""
    text = "".join(path.read_text() for path in PROJECT.glob("*/sql/*.sql"))
    return frozenset(re.findall(r"\w+", text)) | {model._meta.db_table for model in apps.get_models()}


def test_every_documented_python_name_resolves() -> None:
    pattern = rf"^(?:{'|'.join(PACKAGES)})(?:\.[a-z_]\w*)+(?:\.[A-Z]\w+)?"
    names = {name for _, name in in_code(pattern) if name.rpartition(".")[2] not in FILES}
    others = {*celery.tasks, updates.EVENT}
    assert sorted(name for name in names - others if not resolves(name)) == []


def test_every_documented_short_name_resolves() -> None:
    """A name such as `head.safe` is an attribute of a module `head`, or of a module in a package `head`."""
    others = {*topics.names(), *(known.name for known in types.event_types()), *metric_types.METRICS}
    missing = set()
    for _, name in in_code(r"^([a-z_]+\.[A-Za-z_]\w+)(?:\(.*\))?$"):
        module, _, attribute = name.partition(".")
        if module in modules() and module not in PACKAGES and attribute not in FILES and name not in others:
            paths = modules()[module]
            if not any(hasattr(importlib.import_module(path), attribute) for path in paths):
                missing.add(name)
    assert sorted(missing) == []


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
