"""Aggregates: the kinds of record, declared as data and plain functions without a base class. Pure.

A domain file declares one `Aggregate` and the application registers it in `ready()`. The kernel has no code about
users or forms; it folds events with `evolve` and asks `decide` which events a command causes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from events import errors, types
from events.conflicts import UNSET, Check, Group, Policy, values


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """Input of `decide` besides the command and the state: the record's key, and the transaction's time.

    has_gaps    the state lacks events that cannot be read, perhaps the first. Only true for commands that are decided
                despite gaps (`types.CommandType.despite_gaps`)
    """

    key: str
    now: datetime
    has_gaps: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Reasons:
    """The changes of a record that need a reason from the person who makes them.

    fields     fields of the state whose change needs one
    message    the error message when the reason is missing
    keys       a pattern for the keys of the records that are concerned; None: all records of the kind
    on_create  creating the record needs one too
    """

    fields: tuple[str, ...]
    message: str
    keys: re.Pattern[str] | None = None
    on_create: bool = False

    def concerns(self, key: str) -> bool:
        """True when some change of this record needs a reason."""
        return self.keys is None or self.keys.search(key) is not None

    def needed(self, key: str, before: types.JsonDict, after: types.JsonDict, *, created: bool = False) -> bool:
        """True when the change from one dumped state to the other needs a reason."""
        if not self.concerns(key) or (created and not self.on_create):
            return False
        return any(not values.same(before.get(name, UNSET), after.get(name, UNSET)) for name in self.fields)


@dataclass(frozen=True, kw_only=True)
class Aggregate:
    """One kind of record.

    category        first part of the stream name: ``user`` for ``user-<uuid>``
    state           msgspec struct of the folded state; its fields are what the merge compares
    initial         () -> state before the first event
    evolve          (state, event) -> state; total: ignores events it does not know
    decide          (command, state, Decision) -> events; raises `errors.Rejected` / `errors.StreamNotFound`
    commands        command classes of this record
    policies        field -> merge policy for two concurrent changes (default: a person decides)
    groups          fields that merge or conflict together
    checks          conditions on a merged record; a failed one is a conflict
    reasons         the changes that need a reason
    snapshot_every  events between snapshots; 0 = never
    snapshot_days   age of the newest snapshot that makes another one due, when some events follow it; 0 = never
    state_version   schema version of `state`; snapshots of another version are ignored
    subject         the subject of the state's personal data, as a template (``user-{key}``, ``form-{form_id}``); None:
                    the state holds none. Snapshots are encrypted under the subject's key
    """

    category: str
    state: type[Any]
    initial: Callable[[], Any]
    evolve: Callable[[Any, Any], Any]
    decide: Callable[[Any, Any, Decision], Sequence[types.Event]]
    commands: tuple[type[types.CommandData], ...]
    policies: Mapping[str, Policy] = field(default_factory=dict)
    groups: tuple[Group, ...] = ()
    checks: tuple[Check, ...] = ()
    reasons: Reasons | None = None
    snapshot_every: int = 50
    snapshot_days: int = 30
    state_version: int = 1
    subject: str | None = None

    def subject_of(self, stream: str, state: Any) -> str | None:
        """The subject of this stream's state; None if the kind has no subject, or the state names none yet."""
        subject = types.parse_subject(self.subject)
        return None if subject is None else subject.of_state(stream, state)

    def fold(self, events: Iterable[types.Event], state: Any = None) -> Any:
        """The state after `events`, starting from `state` or the initial state."""
        state = self.initial() if state is None else state
        for event in events:
            state = self.evolve(state, event)
        return state

    def dump(self, state: Any) -> types.JsonDict:
        """The state as JSON values."""
        dumped: types.JsonDict = msgspec.to_builtins(state)
        return dumped

    def load(self, data: types.JsonDict) -> Any:
        """A dumped state as its struct; raises `msgspec.ValidationError` when it does not fit."""
        return msgspec.convert(data, self.state)


_by_category: dict[str, Aggregate] = {}
_by_command: dict[type[types.CommandData], Aggregate] = {}


def register(aggregate: Aggregate) -> None:
    """Register a kind of record; see `extension.register_aggregate`. May be repeated.

    Raises `RuntimeError` when its events hold personal data but its state has no subject: snapshots would store that
    data unencrypted.
    """
    known = _by_category.get(aggregate.category)
    if known is not None and known is not aggregate:
        raise RuntimeError(f"two aggregates share the category {aggregate.category!r}")
    if aggregate.subject is None and (personal := _personal_event(aggregate.category)):
        raise RuntimeError(f"{personal} holds personal data, so the aggregate {aggregate.category!r} needs a subject")
    _by_category[aggregate.category] = aggregate
    for command in aggregate.commands:
        _by_command[command] = aggregate


def _personal_event(category: str) -> str | None:
    prefix = f"{category}."
    return next((one.name for one in types.event_types() if one.personal and one.name.startswith(prefix)), None)


def of_category(category: str) -> Aggregate:
    try:
        return _by_category[category]
    except KeyError:
        raise errors.StreamNotFound(f"No kind of record is called {category!r}.") from None


def is_known(category: str) -> bool:
    """True when a kind of record has this category."""
    return category in _by_category


def of_command(command: type[types.CommandData]) -> Aggregate:
    try:
        return _by_command[command]
    except KeyError:
        raise errors.UnknownCommand(f"No record handles {command.__name__}.") from None


def all_aggregates() -> list[Aggregate]:
    return [_by_category[category] for category in sorted(_by_category)]
