"""Size limits of texts, lists and nesting; stored values above a limit do not block other changes."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from backoffice import bounds
from backoffice.sections.conflicts import domain as conflicts
from backoffice.sections.forms import domain as forms
from backoffice.sections.site_settings import domain as settings
from backoffice.sections.submissions import domain as submissions
from backoffice.sections.users import domain as users
from events import errors
from events.aggregate import Aggregate, Decision
from tests import costs

NOW = datetime(2026, 1, 1, tzinfo=UTC)
AT = Decision(key="limits.some", now=NOW)
OWNER = uuid.UUID(int=1)


def refused(aggregate: Aggregate, command: Any, state: Any = None) -> dict[str, str]:
    with pytest.raises(errors.InvalidCommand) as refusal:
        aggregate.decide(command, aggregate.initial() if state is None else state, AT)
    assert refusal.value.status == 422
    return refusal.value.fields


def question(**more: Any) -> dict[str, Any]:
    return {"id": "q1", "type": "text", "label": "Why?", **more}


def nested(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


def new_form(**more: Any) -> forms.CreateForm:
    return forms.CreateForm(**({"user_id": OWNER, "title": "A form"} | more))


@pytest.mark.parametrize(
    ("data", "field", "words"),
    [
        ({"title": "x" * 301}, "title", "301 characters; at most 300"),
        ({"description": "x" * 20_001}, "description", "20,001 characters; at most 20,000"),
        ({"fields": [question(label="x" * 10_001)]}, "fields", "'q1' has a text of 10,001 characters"),
        ({"fields": [question(help="x" * 10_001)]}, "fields", "text"),
        ({"fields": [question(options=["x" * 10_001])]}, "fields", "text"),
        ({"fields": [question(**{"x" * 10_001: 1})]}, "fields", "text"),
        ({"fields": [question(options=list(range(1_001)))]}, "fields", "'q1' has a list of 1,001 entries"),
        ({"fields": [question(options={str(n): n for n in range(1_001)})]}, "fields", "list"),
        ({"fields": [question(rows=[{"options": list(range(1_001))}])]}, "fields", "list"),
        ({"fields": [question(options=nested(12))]}, "fields", "nested 13 levels deep; at most 12"),
        ({"fields": [question(id="x" * 151)]}, "fields", "too long"),
        ({"fields": [question(type="x" * 101)]}, "fields", "too long"),
        ({"fields": [question(id=f"q{n}") for n in range(1_001)]}, "fields", "at most 1000 fields"),
    ],
)
def test_form_above_a_limit_is_refused_by_name(data: dict[str, Any], field: str, words: str) -> None:
    assert words in refused(forms.AGGREGATE, new_form(**data))[field]
    state = forms.Form(user_id=OWNER, title="A form", created_at=NOW)
    assert words in refused(forms.AGGREGATE, forms.UpdateForm(**data), state)[field]


def test_large_realistic_form_is_accepted() -> None:
    options = [{"value": f"v{n}", "label": f"Option number {n}"} for n in range(500)]
    questions = [question(id=f"q{n}", options=options[: 500 if n == 0 else 20]) for n in range(200)]
    (event,) = forms.decide(new_form(description="x" * 20_000, fields=questions), forms.Form(), AT)
    assert isinstance(event, forms.FormCreated)


def test_stored_values_above_a_limit_do_not_block_other_changes() -> None:
    long = {"description": "x" * 30_000, "fields": [question(options=list(range(5_000))), question(id="q2")]}
    state = forms.Form(user_id=OWNER, title="Old", created_at=NOW, **long)
    (event,) = forms.decide(forms.UpdateForm(title="New", **long), state, AT)
    assert event == forms.FormUpdated(title="New")
    other = [long["fields"][0], question(id="q2", label="Changed")]
    assert forms.decide(forms.UpdateForm(fields=other), state, AT) == [forms.FormUpdated(fields=other)]
    worse = [question(options=list(range(5_001))), question(id="q2")]
    assert "5,001" in refused(forms.AGGREGATE, forms.UpdateForm(fields=worse), state)["fields"]


@pytest.mark.parametrize("name", ["first_name", "last_name"])
def test_long_name_is_refused_in_every_command(name: str) -> None:
    create = users.CreateUser(email="a@example.org", **{name: "x" * 151})
    assert "151" in refused(users.AGGREGATE, create)[name]
    state = users.User(email="a@example.org", created_at=NOW)
    assert "151" in refused(users.AGGREGATE, users.UpdateUser(**{name: "x" * 151}), state)[name]


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({"q1": "x" * 100_001}, "text of 100,001 characters"),
        ({"x" * 100_001: 1}, "text"),
        ({"q1": nested(12)}, "nested 13 levels"),
        ({f"q{n}": 1 for n in range(5_001)}, "5,001 answers"),
        ({"q1": list(range(5_001))}, "list of 5,001 entries"),
    ],
)
def test_answers_above_a_limit_are_refused(answers: dict[str, Any], words: str) -> None:
    command = submissions.ReceiveSubmission(form_id=OWNER, answers=answers)
    assert words in refused(submissions.AGGREGATE, command)["answers"]


@pytest.mark.parametrize("value", ["x" * 100_001, nested(33), list(range(5_001)), {"a": ["x" * 100_001]}])
def test_setting_above_a_limit_is_refused(value: Any) -> None:
    assert "at most" in refused(settings.AGGREGATE, settings.SetSetting(value=value))["value"]


def test_long_comment_is_refused_instead_of_truncated() -> None:
    filed = conflicts.ConflictFiled(
        stream="user-1", command={}, base_version=1, version=2, base={}, theirs={}, mine={}, fields=[], conflicts=[],
        author="staff:1", fingerprint="", filed_at=NOW,
    )  # fmt: skip
    command = conflicts.CommentConflict(text="x" * 2_001)
    assert "2,001" in refused(conflicts.AGGREGATE, command, conflicts.Conflict(filed=filed))["text"]


def test_measuring_is_linear() -> None:
    def cost(size: int) -> int:
        value = {f"key {n}": [n, {"text": "x" * n}] for n in range(size)}
        return costs.operations(lambda: bounds.measured(value))

    costs.assert_about_linear(cost, 200)


def test_checking_questions_is_linear() -> None:
    def cost(size: int) -> int:
        fields = [question(id=costs.Counted(f"q{n}"), options=["a", "b"]) for n in range(size)]
        before = [{**field, "label": "Other"} for field in fields]
        return costs.operations(lambda: bounds.questions(fields, before))

    costs.assert_about_linear(cost, 200)
