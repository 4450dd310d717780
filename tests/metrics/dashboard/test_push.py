"""Pushed values: each change is sent once, and only to those who may see the widget."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from backoffice import topics
from events import valkey
from metrics.dashboard import push, widgets
from metrics.monitoring import sampling
from realtime import publish
from tests import factories
from tests.backoffice import api_client

Frames = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def frames() -> Iterator[Frames]:
    """Returns a function that returns the frames published for dashboards since its last call."""
    client = valkey.client("bus")
    listener = client.pubsub(ignore_subscribe_messages=True)
    listener.subscribe(publish.channel())
    listener.get_message(timeout=5.0)

    def received() -> list[dict[str, Any]]:
        assert publish.ephemeral("dashboard", "end", {})
        found: list[dict[str, Any]] = []
        while True:
            raw = listener.get_message(timeout=5.0)
            message = publish.decode(raw["data"]) if raw else None
            if isinstance(message, publish.Value) and message.topic == "dashboard":
                if message.event == "end":
                    return found
                assert (message.event, message.key) == ("dashboard.widget.update", message.data["widget_id"])
                assert message.data.keys() == {"widget_id", "data", "timestamp"}
                found.append(message.data)

    push.forget()
    yield received
    push.forget()
    listener.close()
    client.close()


@pytest.mark.services
@pytest.mark.django_db(transaction=True)
def test_widgets_are_pushed_when_they_change_only(frames: Frames) -> None:
    push.step(1)
    assert [frame["widget_id"] for frame in frames()] == list(push.COUNTS)
    push.step(2)
    assert frames() == []
    factories.user()
    push.step(3)
    assert [frame["widget_id"] for frame in frames()] == ["log"]


@pytest.mark.services
@pytest.mark.django_db
def test_failed_comparison_stops_no_other(frames: Frames, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Any:
        raise push.DatabaseError("gone")

    monkeypatch.setitem(push.COUNTS, "health", broken)
    push.step(1)
    assert [frame["widget_id"] for frame in frames()] == [kind for kind in push.COUNTS if kind != "health"]


@pytest.mark.services
@pytest.mark.django_db
def test_frame_that_was_not_sent_is_sent_with_the_next_sample(frames: Frames, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as without_valkey:
        without_valkey.setattr(push.publish, "send", lambda _message: False)
        push.step(1)
    assert frames() == []
    push.step(2)
    assert [frame["widget_id"] for frame in frames()] == list(push.COUNTS)


@pytest.mark.django_db
@pytest.mark.parametrize("role", api_client.ROLES)
def test_socket_lets_through_what_the_role_may_see(role: str) -> None:
    person = api_client.staff(role)
    for kind in push.COUNTS:
        assert topics.may_see_widget(person, kind) == widgets.may_see(person, kind, {}), kind


def test_sampler_pushes_after_each_sample() -> None:
    assert push.step in sampling.STEPS
