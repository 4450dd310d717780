"""The documentation: every relative link leads to a file, and every anchor to a heading."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.core.management import get_commands

PROJECT = Path(__file__).resolve().parents[1]
PAGES = [*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md")]
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors that a Markdown page has for its headings."""
    headings = re.findall(r"^#+ (.+)$", CODE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_relative_links_and_anchors_exist(page: Path) -> None:
    broken = []
    for link in LINK.findall(CODE.sub("", page.read_text())):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if "://" in link or link.startswith("mailto:"):
            continue
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_index_names_every_page() -> None:
    index = (PROJECT / "docs" / "README.md").read_text()
    pages = [path.name for path in (PROJECT / "docs").iterdir() if path.suffix in {".md", ".yaml", ".json"}]
    assert [name for name in pages if name != "README.md" and f"({name})" not in index] == []


def test_index_of_decisions_names_every_decision() -> None:
    index = (PROJECT / "docs" / "adr" / "README.md").read_text()
    decisions = sorted(path.name for path in (PROJECT / "docs" / "adr").glob("0*.md"))
    assert re.findall(r"\]\((0[^)]+)\)", index) == decisions


def test_commands_of_the_documentation_exist() -> None:
    """Each `make` target and `manage.py` command that a page tells people to run."""
    text = "".join(page.read_text() for page in PAGES if page.name != "CHANGELOG.md")
    targets = set(re.findall(r"^([a-z]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    shown = {name for found in re.findall(r"^make ([a-z ]+)", text, re.MULTILINE) for name in found.split()}
    assert shown <= targets, shown - targets
    named = set(re.findall(r"manage\.py ([a-z_]+)", text))
    assert named <= {"help", *get_commands()}
