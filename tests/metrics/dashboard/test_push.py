"""Pushed values: what changed, once, and only to those who may see the widget."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from backoffice import topics
from metrics.dashboard import push, widgets
from metrics.monitoring import sampling
from tests import factories
from tests.backoffice import api_client


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, Any]]]:
    """The frames, in place of Valkey."""
    found: list[tuple[str, Any]] = []

    def ephemeral(topic: str, event: str, data: dict[str, Any], *, key: str) -> bool:
        assert (topic, event, data["widget_id"]) == ("dashboard", "dashboard.widget.update", key)
        assert data.keys() == {"widget_id", "data", "timestamp"}
        found.append((key, data["data"]))
        return True

    monkeypatch.setattr(push.publish, "ephemeral", ephemeral)
    push.forget()
    yield found
    push.forget()


@pytest.mark.django_db(transaction=True)
def test_widgets_are_pushed_when_their_number_changes_only(sent: list[tuple[str, Any]]) -> None:
    push.step(1)
    assert [key for key, _ in sent] == list(push.COUNTS)
    sent.clear()
    push.step(2)
    assert sent == []
    factories.user()
    push.step(3)
    assert [key for key, _ in sent] == ["log"]


@pytest.mark.django_db
def test_failed_comparison_stops_no_other(sent: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Any:
        raise push.DatabaseError("gone")

    monkeypatch.setitem(push.COUNTS, "health", broken)
    push.step(1)
    assert [key for key, _ in sent] == [kind for kind in push.COUNTS if kind != "health"]


@pytest.mark.django_db
def test_frame_that_was_not_sent_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([False] * len(push.COUNTS) + [True] * len(push.COUNTS))
    calls: list[str] = []

    def ephemeral(*_: Any, key: str) -> bool:
        calls.append(key)
        return next(answers)

    monkeypatch.setattr(push.publish, "ephemeral", ephemeral)
    push.forget()
    for slot in (1, 2, 3):
        push.step(slot)
    assert calls == [*push.COUNTS, *push.COUNTS]
    push.forget()


@pytest.mark.django_db
@pytest.mark.parametrize("role", api_client.ROLES)
def test_socket_lets_through_what_the_role_may_see(role: str) -> None:
    person = api_client.staff(role)
    for kind in push.COUNTS:
        assert topics.may_see_widget(person, kind) == widgets.may_see(person, kind, {}), kind
    assert topics.may_see_widget(person, "health")


def test_sampler_pushes_after_each_sample() -> None:
    assert push.step in sampling.STEPS
