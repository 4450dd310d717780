"""The store returns the same as a small model in memory, for random sequences of operations."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from backoffice.sections.users import domain as users
from events import commands, errors, head, snapshot_upkeep, snapshots, store
from events.types import Command, new_id, stream_name
from tests.events.interleaving import LONG

EXPECTED = st.sampled_from(["any", "no stream", "exists", "right", "one less", "one more"])
NAME = st.text("abc", min_size=1, max_size=3)
KEYS = st.integers(0, 2)


class Model(RuleBasedStateMachine):
    """A model of the store: `log` holds (stream, version, first name) in the order of positions."""

    @initialize()
    def begin(self) -> None:
        self.start = head.safe()
        self.keys = [new_id() for _ in range(3)]
        self.log: list[tuple[str, int, str | None]] = []
        self.sent: list[tuple[Command, commands.Result]] = []

    # -- the model's state ------------------------------------------------------------------------------------------

    def stream(self, key: int) -> str:
        return stream_name("user", self.keys[key])

    def events_of(self, stream: str) -> list[tuple[int, str | None]]:
        return [(version, name) for found, version, name in self.log if found == stream]

    def version(self, stream: str) -> int:
        return len(self.events_of(stream))

    def name_at(self, stream: str, version: int) -> str | None:
        """The first name at this version: the last one that an event set."""
        given = [name for at, name in self.events_of(stream) if at <= version and name is not None]
        return given[-1] if given else None

    def expectation(self, stream: str, expected: str) -> tuple[int | None, bool]:
        """The expected version as an argument of the store, and whether the stream is at it."""
        now = self.version(stream)
        return {
            "any": (store.ANY, True),
            "no stream": (store.NO_STREAM, now == 0),
            "exists": (store.EXISTS, now > 0),
            "right": (now, True),
            "one less": (max(now - 1, 0), now == 0),
            "one more": (now + 1, False),
        }[expected]

    def grew(self, stream: str, names: list[str | None]) -> None:
        now = self.version(stream)
        self.log += [(stream, now + n, name) for n, name in enumerate(names, start=1)]

    # -- writing ----------------------------------------------------------------------------------------------------

    @rule(key=KEYS, names=st.lists(NAME, min_size=1, max_size=3), expected=EXPECTED)
    def append(self, key: int, names: list[str], expected: str) -> None:
        stream = self.stream(key)
        version, holds = self.expectation(stream, expected)
        events = [users.UserUpdated(first_name=name) for name in names]
        if holds:
            placed = store.append(stream, events, version)
            self.grew(stream, list(names))
            assert placed.version == self.version(stream)
        else:
            with pytest.raises(errors.WrongExpectedVersion):
                store.append(stream, events, version)

    @rule(parts=st.lists(st.tuples(KEYS, st.lists(NAME, min_size=1, max_size=2), EXPECTED), min_size=2, max_size=3))
    def append_to_several(self, parts: list[tuple[int, list[str], str]]) -> None:
        parts = list({key: (key, names, expected) for key, names, expected in parts}.values())
        found = [
            (self.stream(key), names, *self.expectation(self.stream(key), expected)) for key, names, expected in parts
        ]
        appends = [
            store.Append(stream=stream, events=[users.UserUpdated(first_name=n) for n in names], expected=version)
            for stream, names, version, _ in found
        ]
        if all(holds for *_, holds in found):
            store.append_many(appends)
            for stream, names, *_ in found:
                self.grew(stream, list(names))
        else:
            with pytest.raises(errors.WrongExpectedVersion):
                store.append_many(appends)

    @rule(key=KEYS, name=NAME)
    def append_and_roll_back(self, key: int, name: str) -> None:
        with transaction.atomic():
            store.append(self.stream(key), [users.UserUpdated(first_name=name)])
            transaction.set_rollback(True)

    @precondition(lambda self: self.log)
    @rule(data=st.data(), name=NAME)
    def append_an_id_again(self, data: st.DataObject, name: str) -> None:
        event = data.draw(st.sampled_from(store.read_all(self.start, upto=head.safe())))
        with pytest.raises(errors.DuplicateEvent):
            store.append(self.stream(0), [users.UserUpdated(first_name=name)], event_ids=[event.event_id])

    @rule(key=KEYS, name=NAME)
    def dispatch(self, key: int, name: str) -> None:
        stream = self.stream(key)
        command = Command(id=new_id(), key=str(self.keys[key]), data=users.UpdateUser(first_name=name))
        if not any(event == "created" for event in self.created(stream)):
            with pytest.raises(errors.EventsError):
                commands.dispatch(command)
            return
        result = commands.dispatch(command)
        changes = self.name_at(stream, self.version(stream)) != name
        assert result.status == ("applied" if changes else "unchanged")
        if changes:
            self.grew(stream, [name])
        self.sent.append((command, result))

    def created(self, stream: str) -> list[str]:
        """["created"] if the stream began with `CreateUser`; other streams have no creation event."""
        return ["created"] if self.events_of(stream)[:1] == [(1, "Created")] else []

    @rule(key=KEYS)
    def create(self, key: int) -> None:
        stream = self.stream(key)
        if self.version(stream):
            return
        data = users.CreateUser(email=f"{uuid.uuid4()}@example.org", first_name="Created")
        command = Command(id=new_id(), key=str(self.keys[key]), data=data)
        result = commands.dispatch(command)
        self.grew(stream, ["Created"])
        self.sent.append((command, result))

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def dispatch_again(self, data: st.DataObject) -> None:
        command, first = data.draw(st.sampled_from(self.sent))
        again = commands.dispatch(command)
        assert (again.status, again.version, again.events) == ("duplicate", first.version, first.events)
        with pytest.raises(errors.IdempotencyKeyReused):
            commands.dispatch(Command(id=command.id, key=str(new_id()), data=command.data))

    # -- snapshots --------------------------------------------------------------------------------------------------

    @rule(key=KEYS)
    def snapshot(self, key: int) -> None:
        state, version = snapshots.state(self.stream(key))
        if version:
            snapshots.save(users.AGGREGATE, self.stream(key), version, state)

    @rule(keep=st.integers(0, 2))
    def prune(self, keep: int) -> None:
        snapshot_upkeep.prune(keep)

    # -- reading ----------------------------------------------------------------------------------------------------

    @rule(key=KEYS, version=st.integers(0, 8))
    def state_at_a_version(self, key: int, version: int) -> None:
        stream = self.stream(key)
        state, reached = snapshots.state(stream, version)
        assert reached == min(version, self.version(stream))
        if self.created(stream) and reached:
            assert state.first_name == self.name_at(stream, reached)

    @precondition(lambda self: self.log)
    @rule(data=st.data())
    def state_at_an_instant(self, data: st.DataObject) -> None:
        event = data.draw(st.sampled_from(store.read_all(self.start, upto=head.safe())))
        _, reached = snapshots.state(event.stream, at=event.recorded_at)
        same = [one for one in store.read_stream(event.stream) if one.recorded_at == event.recorded_at]
        assert reached == same[-1].version

    @rule(key=KEYS, after=st.integers(0, 5), limit=st.integers(1, 4), upto=st.integers(0, 8))
    def read_stream(self, key: int, after: int, limit: int, upto: int) -> None:
        stream = self.stream(key)
        read = [_plain(event) for event in store.read_stream(stream, after, limit, upto=upto)]
        expected = [(stream, at, name) for at, name in self.events_of(stream) if after < at <= upto]
        assert read == expected[:limit]

    @rule(limit=st.integers(1, 4))
    def read_all_in_pages(self, limit: int) -> None:
        read, after, upto = list[Any](), self.start, head.safe()
        while page := store.read_all(after, limit, upto=upto):
            read += [_plain(event) for event in page]
            after = page[-1].position
        assert read == self.log

    @invariant()
    def streams_are_at_their_versions(self) -> None:
        for key in range(3):
            assert store.version_of(self.stream(key)) == self.version(self.stream(key))


def _plain(event: Any) -> tuple[str, int, str | None]:
    return event.stream, event.version, event.data.get("first_name")


@pytest.mark.timeout(7200 if LONG else 120)
@pytest.mark.django_db(transaction=True)
def test_store_behaves_like_a_list_in_memory() -> None:
    run_state_machine_as_test(
        Model,
        settings=settings(
            max_examples=400 if LONG else 12,
            stateful_step_count=40 if LONG else 25,
            deadline=None,
            derandomize=not LONG,
            suppress_health_check=list(HealthCheck),
        ),
    )
