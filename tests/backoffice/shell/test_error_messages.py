"""Messages of the domain are translated for French readers."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from django.utils import translation

from backoffice import error_messages, section
from events import errors

PROJECT = Path(__file__).resolve().parents[3]


def sentences() -> list[str]:
    """Returns every message that a domain file raises, with 7 in place of each value."""
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
def test_every_domain_message_is_translated_to_french(text: str) -> None:
    with translation.override("fr"):
        assert error_messages.translate(text) != text


def test_values_in_a_message_stay_unchanged() -> None:
    with translation.override("fr"):
        assert "'q1'" in error_messages.translate("Two fields share the id 'q1'.")


def test_unlisted_message_is_shown_unchanged() -> None:
    with translation.override("fr"):
        assert error_messages.translate("Never heard of.") == "Never heard of."


def test_error_has_messages_for_its_fields() -> None:
    with translation.override("fr"):
        message, fields = error_messages.translate_error(
            errors.Rejected("There is no such user.", {"key": "already exists"})
        )
    assert (message, fields) == ("Cet utilisateur n’existe pas.", {"key": "existe déjà"})
