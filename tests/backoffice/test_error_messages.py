"""What the domain says reaches a French reader in French."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from django.utils import translation

from backoffice import error_messages, section
from events import errors

PROJECT = Path(__file__).resolve().parent.parent.parent


def sentences() -> list[str]:
    """Every sentence that a domain file raises; values in it are sevens."""
    found: list[str] = []
    for path in sorted(
        [
            *(PROJECT / "backoffice").glob("sections/*/domain.py"),
            *(PROJECT / "backoffice" / n for n in ("bounds.py", "values.py")),
        ]
    ):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                found += texts(node.exc)
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Lifecycle":
                found += texts(node)
    return sorted({text for text in found if " " in text and text[:1].isupper()})


def texts(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else []
    if isinstance(node, ast.JoinedStr):
        return ["".join(str(part.value) if isinstance(part, ast.Constant) else "7" for part in node.values)]
    return [text for child in ast.iter_child_nodes(node) for text in texts(child)]


SENTENCES = [*sentences(), *(refusal().message for one in section.sections() for refusal in one.constraints.values())]


@pytest.mark.parametrize("text", sorted(set(SENTENCES)))
def test_every_sentence_of_the_domain_is_french_for_a_french_reader(text: str) -> None:
    with translation.override("fr"):
        assert error_messages.said(text) != text


def test_values_in_a_sentence_stay_what_they_are() -> None:
    with translation.override("fr"):
        assert "'q1'" in error_messages.said("Two fields share the id 'q1'.")


def test_what_nobody_listed_is_shown_as_it_is() -> None:
    with translation.override("fr"):
        assert error_messages.said("Never heard of.") == "Never heard of."


def test_an_error_is_told_with_its_fields() -> None:
    with translation.override("fr"):
        message, fields = error_messages.said_by(errors.Rejected("There is no such user.", {"key": "already exists"}))
    assert (message, fields) == ("Cet utilisateur n’existe pas.", {"key": "existe déjà"})
