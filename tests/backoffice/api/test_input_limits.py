"""Limits of requests: number of ids, length of searches, and regular expressions without exponential backtracking."""

from __future__ import annotations

import ast
import re
import re._constants as opcodes  # type: ignore[import-not-found]
import re._parser as parser  # type: ignore[import-not-found]
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backoffice import error_messages, listing
from tests.backoffice import api_client

PROJECT = Path(__file__).resolve().parents[3]
PACKAGES = ("backoffice", "devtools", "events", "realtime", "metrics")


# -- ids and words -------------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize("parameter", ["ids", "new"])
@pytest.mark.parametrize("section", ["user", "form", "submission", "setting", "conflict"])
def test_more_ids_than_a_page_shows_are_refused(section: str, parameter: str) -> None:
    client = api_client.signed_in("manager").client
    keys = [str(uuid.uuid4()) for _ in range(201)]
    address = f"/admin/backoffice/{section}/rows/"
    assert client.get(address, {parameter: ",".join(keys[:200])}).status_code == 200
    assert client.get(address, {parameter: ",".join(keys)}).status_code == 400


@pytest.mark.django_db
def test_too_long_search_is_refused() -> None:
    caller = api_client.signed_in("manager")
    assert caller.get(f"users/?search={'x' * listing.MAX_SEARCH}").status_code == 200
    refusal = api_client.problem(caller.get(f"users/?search={'x' * (listing.MAX_SEARCH + 1)}"), 400, "invalid_filter")
    assert refusal["parameter"] == "search"
    assert caller.client.get("/admin/backoffice/user/", {"q": "x" * 10_000}).status_code == 200


# -- regular expressions -------------------------------------------------------------------------------------------

# An unbounded repeat inside another can match a text in exponentially many ways. These cannot: each round of the
# outer one begins with a character that the inner one does not match, or never gives back characters.
REVIEWED = {
    r'[^"]*(?:""[^"]*)*"(?!")': "each round begins with two quotes, which the inner class leaves out",
    r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+": "each round begins with a dot, which the inner class leaves out",
}


def patterns() -> list[tuple[str, str]]:
    """Returns (file, pattern) of every regular expression in the code."""
    found = [("backoffice/error_messages.py", pattern) for pattern, _ in error_messages.PATTERNS]
    for package in PACKAGES:
        for path in sorted((PROJECT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args
                if not is_call or not isinstance(node.func.value, ast.Name) or node.func.value.id != "re":  # type: ignore[union-attr, attr-defined]
                    continue
                given = node.args[0]  # type: ignore[attr-defined]
                text = given.value if isinstance(given, ast.Constant) else None
                if isinstance(text, bytes):
                    text = text.decode("latin-1")
                if isinstance(text, str):
                    found.append((str(path.relative_to(PROJECT)), text))
    return found


def ambiguous(pattern: str) -> bool:
    """Returns whether an unbounded repeat contains another one."""
    return any(_holds_endless(body) for body in _endless(parser.parse(pattern)))


def _endless(tree: Any) -> Iterator[Any]:
    """Returns the bodies of unbounded repeats that can backtrack, nested ones included."""
    for operation, argument in tree:
        if operation in (opcodes.MAX_REPEAT, opcodes.MIN_REPEAT) and argument[1] > 64:
            yield argument[2]
        for inner in _inside(operation, argument):
            yield from _endless(inner)


def _holds_endless(tree: Any) -> bool:
    return next(_endless(tree), None) is not None


def _inside(operation: Any, argument: Any) -> Iterator[Any]:
    if operation in (opcodes.MAX_REPEAT, opcodes.MIN_REPEAT, opcodes.POSSESSIVE_REPEAT):
        yield argument[2]
    elif operation is opcodes.SUBPATTERN:
        yield argument[3]
    elif operation is opcodes.BRANCH:
        yield from argument[1]
    elif operation in (opcodes.ASSERT, opcodes.ASSERT_NOT):
        yield argument[1]
    elif operation is opcodes.ATOMIC_GROUP:
        yield argument


def test_check_finds_nested_repeats() -> None:
    assert ambiguous(r"(a+)+b")
    assert ambiguous(r"((?:a|b*)c)*")
    assert not ambiguous(r"a+b+(?:cd)*")
    assert not ambiguous(r"(?:a++)*+")
    assert len(patterns()) > 50


def test_no_regular_expression_nests_unbounded_repeats() -> None:
    suspicious = {text: where for where, text in patterns() if ambiguous(text) and text not in REVIEWED}
    assert not suspicious, "review these for catastrophic backtracking and add a reason, or rewrite them"


def test_reviewed_patterns_still_exist() -> None:
    assert REVIEWED.keys() <= {text for _, text in patterns()}


def test_every_regular_expression_compiles() -> None:
    for _, text in patterns():
        re.compile(text)
