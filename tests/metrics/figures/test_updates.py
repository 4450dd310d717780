"""Frames `metrics.updated`: their keys, at most one per topic and second, none lost while Valkey is unreachable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from backoffice.sections.forms import domain as forms
from events import head, store
from events.subscriptions import runner as subscriptions
from metrics.counters import applying, updates
from metrics.counters.applying import Changed
from metrics.counters.updates import Updates
from realtime import publish
from tests import factories
from tests.metrics.counters import counting


class Valkey:
    """Collects sent values in place of Valkey; `up` is whether it can be reached."""

    def __init__(self) -> None:
        self.sent: list[publish.Value] = []
        self.up = True
        self.now = 100.0

    def send(self, messages: Sequence[publish.Message]) -> bool:
        if self.up:
            self.sent += [message for message in messages if isinstance(message, publish.Value)]
        return self.up

    def updates(self) -> Updates:
        """Returns the updates of the process that runs the subscription."""
        found = Updates(self.send, lambda: self.now)
        found.tick()
        return found

    def of(self, topic: str) -> list[dict[str, Any]]:
        return [value.data for value in self.sent if value.topic == topic]


def changed(*users: str, form: str = "f") -> Changed:
    return Changed(users=frozenset(users), forms=frozenset((form,)), days=True)


# -- coalescing -------------------------------------------------------------------------------------------------------


def test_first_change_is_pushed_at_once_to_record_list_and_dashboard() -> None:
    valkey = Valkey()
    valkey.updates().add(changed("u"), 7)
    assert {value.topic for value in valkey.sent} == {"users", "user:u", "forms", "form:f", "dashboard"}
    assert {value.event for value in valkey.sent} == {"metrics.updated"}
    (frame,) = valkey.of("users")
    assert (frame["keys"], frame["as_of"]["position"], frame["previous"]) == (["u"], 7, None)


def test_topic_gets_one_frame_a_second_with_everything_since() -> None:
    valkey = Valkey()
    pushed = valkey.updates()
    for position in range(1, 101):
        pushed.add(changed(f"u{position % 3}"), position)
        valkey.now += 0.005
    assert len(valkey.of("users")) == 1
    valkey.now += 1
    pushed.tick()
    first, second = valkey.of("users")
    assert second["keys"] == ["u0", "u1", "u2"]
    assert (second["previous"], second["as_of"]["position"]) == (first["as_of"]["position"], 100)
    assert len(valkey.of("user:u1")) == 2
    valkey.now += 5
    pushed.tick()
    assert len(valkey.of("users")) == 2, "nothing waits any more"


def test_frame_about_too_many_records_of_a_list_names_none() -> None:
    valkey = Valkey()
    valkey.updates().add(changed(*(f"u{number}" for number in range(updates.MAX_KEYS + 1))), 1)
    assert valkey.of("users")[0]["keys"] == []


def test_many_records_are_pushed_over_several_seconds_and_all_of_them() -> None:
    valkey = Valkey()
    pushed = valkey.updates()
    pushed.add(changed(*(f"u{number}" for number in range(1_200))), 1)
    assert len(valkey.sent) == updates.MAX_TOPICS
    for _second in range(3):
        valkey.now += 1
        pushed.tick()
    assert {f"user:u{number}" for number in range(1_200)} <= {value.topic for value in valkey.sent}


def test_changes_wait_while_valkey_is_away() -> None:
    valkey = Valkey()
    pushed = valkey.updates()
    valkey.up = False
    pushed.add(changed("a"), 1)
    pushed.add(changed("b"), 2)
    valkey.up = True
    pushed.tick()
    assert not valkey.sent, "it is not asked again within the second"
    valkey.now += 1
    pushed.tick()
    assert [frame["keys"] for frame in valkey.of("users")] == [["a", "b"]]


def test_waiting_changes_are_bounded() -> None:
    valkey = Valkey()
    pushed = valkey.updates()
    valkey.up = False
    for position in range(30):
        pushed.add(changed(*(f"{position}-{number}" for number in range(1_000))), position)
    assert len(pushed._waiting) <= updates.MAX_WAITING + 3
    valkey.up = True
    valkey.now += 1
    pushed.tick()
    assert [frame["keys"] for frame in valkey.of("users")] == [[]]


def test_process_that_only_replays_pushes_at_once_because_it_never_ticks() -> None:
    valkey = Valkey()
    pushed = Updates(valkey.send, lambda: valkey.now)
    pushed.add(changed("a"), 1)
    pushed.add(changed("b"), 2)
    assert [frame["keys"] for frame in valkey.of("users")] == [["a"], ["b"]]


# -- what changed -----------------------------------------------------------------------------------------------------


@pytest.fixture
def valkey(own_database: None, monkeypatch: pytest.MonkeyPatch) -> Valkey:
    """Replaces Valkey for the subscription of this process; the log is empty."""
    found = Valkey()
    monkeypatch.setattr(updates, "LOCAL", found.updates())
    return found


@pytest.mark.django_db(transaction=True)
def test_submission_names_its_form_and_the_owner_of_the_form(valkey: Valkey) -> None:
    owner = factories.user()
    form = factories.form(owner)
    counting.follow()
    valkey.sent.clear()
    valkey.now += 1
    counting.receive(form)
    counting.follow()
    assert {value.topic for value in valkey.sent} == {"users", f"user:{owner}", "forms", f"form:{form}", "dashboard"}
    assert valkey.of(f"user:{owner}")[0]["as_of"]["position"] == head.newest()


@pytest.mark.django_db(transaction=True)
def test_event_that_changes_no_counter_pushes_nothing(valkey: Valkey) -> None:
    form = factories.form()
    counting.follow()
    valkey.sent.clear()
    valkey.now += 1
    counting.send(forms.UpdateForm(title="Another title"), form)
    counting.follow()
    assert not valkey.sent


@pytest.mark.django_db(transaction=True)
def test_frame_is_sent_after_the_commit_and_never_after_a_rollback(valkey: Valkey) -> None:
    form = factories.form()
    counting.follow()
    valkey.sent.clear()
    valkey.now += 1
    counting.receive(form)

    def fail(events: Sequence[Any]) -> None:
        updates.handle(events)
        assert not valkey.sent, "not committed yet"
        raise ConnectionError

    failing = counting.declared(handle=fail, park=False)
    owner = subscriptions.owner_name()
    lease = subscriptions.acquire(failing, owner)
    assert lease is not None
    with pytest.raises(ConnectionError):
        subscriptions.step(failing, owner, lease)
    subscriptions.release(failing, owner)
    assert not valkey.sent
    counting.follow()
    assert valkey.of(f"form:{form}")


@pytest.mark.django_db(transaction=True)
def test_moved_window_refreshes_every_list_and_record(valkey: Valkey) -> None:
    factories.user()
    counting.follow()
    valkey.sent.clear()
    valkey.now += 1
    store.execute("update metrics_counters_state set recent_from = recent_from - interval '2 hours'")
    updates.tick(head.newest())
    assert valkey.of("users")[0]["keys"] == valkey.of("forms")[0]["keys"] == []
    assert "records" in valkey.of("dashboard")[0]["keys"]
    assert not applying.is_due()
