"""given / when / then for the deciders of a record. Pure: no database, no Django, microseconds per test.

    from backoffice.sections.users import domain as users
    from events import testing

    given = testing.decider(users.AGGREGATE)
    created = users.UserCreated(email="a@x.org", first_name="A", last_name="", plan="free", role="member", …)

    def test_plan_is_changed():
        given(created).when(users.UpdateUser(plan="premium")).then(users.UserUpdated(plan="premium"))

    def test_email_address_without_an_at_sign_is_rejected():
        given(created).when(users.UpdateUser(email="nobody")).then_rejected("valid email", field="email")

Every event, given or decided, is first encoded under its stored name and decoded again. So a test also notices an event
that does not survive storage, and states are folded from the events that a reader would get.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from events import errors, types
from events.aggregate import Aggregate, Decision
from events.types import CommandData, Event

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
KEY = "018f0000-0000-7000-8000-000000000001"


def decider(aggregate: Aggregate, *, key: str = KEY, now: datetime = NOW) -> Callable[..., Given]:
    """`given` for one kind of record: takes the past events of the record `key`; the time is `now`."""

    def given(*events: Event) -> Given:
        return Given(aggregate, Decision(key=key, now=now), tuple(stored(event) for event in events))

    return given


def stored(event: Event) -> Event:
    """The event as a reader gets it. Fails when storage would change it."""
    known = types.event_type_of(type(event))
    again = types.decode_event(known.name, known.schema_version, msgspec.json.decode(msgspec.json.encode(event)))
    assert again == event, f"{known.name} does not survive being stored:\n  stored {event!r}\n  read   {again!r}"
    return again


class Given:
    """A record with its past events."""

    def __init__(self, aggregate: Aggregate, at: Decision, events: tuple[Event, ...]) -> None:
        self._aggregate, self._at, self._events = aggregate, at, events

    @property
    def state(self) -> Any:
        """The state folded from the past events."""
        return self._aggregate.fold(self._events)

    def when(self, command: CommandData) -> Outcome:
        """Run the decider. A refusal is an outcome too; any other exception fails the test."""
        assert type(command) in self._aggregate.commands, f"{type(command).__name__} is no command of this record"
        decided: Sequence[Event] = ()
        refusal: errors.EventsError | None = None
        try:
            decided = self._aggregate.decide(command, self.state, self._at)
        except errors.EventsError as error:
            refusal = error
        return Outcome(self._aggregate, self._at, self._events, tuple(stored(event) for event in decided), refusal)


class Outcome:
    """The outcome of a command: events, none, or a refusal. Each check returns the outcome, so that checks chain."""

    def __init__(
        self,
        aggregate: Aggregate,
        at: Decision,
        past: tuple[Event, ...],
        events: tuple[Event, ...],
        refusal: errors.EventsError | None,
    ) -> None:
        self._aggregate, self._at, self._past = aggregate, at, past
        self.events, self.refusal = events, refusal

    def then(self, *expected: Event) -> Outcome:
        """Assert that exactly these events were decided, in this order."""
        assert expected, "use then_nothing() when nothing is expected"
        self._not_refused()
        assert self.events == expected, f"decided  {_listed(self.events)}\nexpected {_listed(expected)}"
        return self

    def then_nothing(self) -> Outcome:
        """Assert that the command was accepted and caused no event."""
        self._not_refused()
        assert not self.events, f"decided {_listed(self.events)}, expected nothing"
        return self

    def then_rejected(
        self, match: str = "", *, field: str | None = None, error: type[errors.EventsError] = errors.InvalidCommand
    ) -> Outcome:
        """Assert a refusal with `error` whose message, or that of `field`, matches the pattern."""
        assert self.refusal is not None, f"accepted: {_listed(self.events)}"
        assert isinstance(self.refusal, error), f"refused with {self.refusal!r}, not as {error.__name__}"
        fields: dict[str, str] = getattr(self.refusal, "fields", {})
        if field is not None:
            assert field in fields, f"refused for {fields or self.refusal.message!r}, not for {field}"
        message = fields[field] if field is not None else " ".join([self.refusal.message, *fields.values()])
        assert re.search(match, message), f"refused with {message!r}, which does not match {match!r}"
        return self

    def then_not_found(self, match: str = "") -> Outcome:
        """Assert a refusal because there is no such record."""
        return self.then_rejected(match, error=errors.StreamNotFound)

    def then_state(self, **expected: Any) -> Outcome:
        """Assert that the resulting state has these values and survives a snapshot."""
        self._not_refused()
        state = self._aggregate.fold((*self._past, *self.events))
        assert self._aggregate.load(self._aggregate.dump(state)) == state, "the state does not survive a snapshot"
        actual = {name: getattr(state, name) for name in expected}
        assert actual == expected, f"state    {actual!r}\nexpected {expected!r}"
        return self

    def and_given(self) -> Given:
        """Start again with all events so far as the past."""
        self._not_refused()
        return Given(self._aggregate, self._at, (*self._past, *self.events))

    def _not_refused(self) -> None:
        assert self.refusal is None, f"refused: {self.refusal!r} {getattr(self.refusal, 'fields', '')}"


def _listed(events: Sequence[Event]) -> str:
    return ", ".join(map(repr, events)) or "nothing"
