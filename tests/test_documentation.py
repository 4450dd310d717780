"""Paths, links, anchors and commands in the documentation exist, and its indexes are complete."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from django.core.management import get_commands

PROJECT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md")])
# The changelog names the files of each release as they were then.
WITHOUT_PATHS = {"CHANGELOG.md"}
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
SECTION = re.compile(r"docs/([\w-]+\.md), ([A-Z][\w -]*\w)")  # in messages
FILE_NAME = re.compile(r"[\w.-]+\.(py|js|mjs|css|html|sql|md|yaml|json|txt|csv)")


@cache
def tracked() -> frozenset[str]:
    """The files and folders of the repository; without git, those on the disk."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], check=False, cwd=PROJECT, capture_output=True, text=True
    )
    paths = listed.stdout.splitlines() if listed.returncode == 0 else []
    if not paths:
        paths = [str(path.relative_to(PROJECT)) for path in PROJECT.rglob("*") if ".venv" not in path.parts]
    return frozenset(str(part) for path in map(Path, paths) for part in (path, *path.parents))


@cache
def names() -> frozenset[str]:
    return frozenset(Path(path).name for path in tracked())


def mentioned(text: str) -> Iterator[str]:
    """Paths in code spans: those below a folder of the repository, and names of files with a known extension."""
    folders = {path for path in tracked() if "/" not in path and (PROJECT / path).is_dir()}
    for span in CODE.findall(text):
        for word in span.split():
            first, slash, _rest = word.partition("/")
            if (slash and first in folders and first != ".") or FILE_NAME.fullmatch(word):
                yield word.rstrip("/")


def exists(path: str) -> bool:
    if "*" in path or "<" in path or Path(path).stem.isupper():  # a placeholder
        return True
    return path in tracked() if "/" in path else path in tracked() or path in names()


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to the headings."""
    plain = [re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", title) for title in HEADING.findall(FENCE.sub("", text))]
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in plain}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_every_path_exists(document: Path) -> None:
    if document.name not in WITHOUT_PATHS:
        assert sorted(path for path in set(mentioned(document.read_text())) if not exists(path)) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_every_link_leads_to_a_file_and_a_heading(document: Path) -> None:
    broken = []
    for link in LINK.findall(document.read_text()):
        if "://" in link or link.startswith("mailto:"):
            continue
        name, _hash, anchor = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target.read_text())):
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


def test_every_command_exists() -> None:
    """Each `make` target and `manage.py` command that a page asks readers to run."""
    text = "".join(page.read_text() for page in DOCUMENTS if page.name != "CHANGELOG.md")
    targets = set(re.findall(r"^([a-z]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    shown = {name for found in re.findall(r"^make ([a-z ]+)", text, re.MULTILINE) for name in found.split()}
    assert shown <= targets, shown - targets
    named = set(re.findall(r"manage\.py ([a-z_]+)", text))
    assert named <= {"help", *get_commands()}


def test_sections_that_messages_name_exist() -> None:
    files = [path for path in tracked() if path.endswith(".py") and not path.startswith("tests/")]
    named = {match for path in files for match in SECTION.findall((PROJECT / path).read_text())}
    assert named
    assert {
        (name, title) for name, title in named if title not in HEADING.findall((PROJECT / "docs" / name).read_text())
    } == set()
