"""A record as the kernel knows it: data and plain functions, no base class. Pure.

A domain file declares one `Aggregate` and the application registers it in `ready()`. The kernel never learns what a
user or a form is; it folds events with `evolve` and asks `decide` what a command makes happen.
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
    """What `decide` may know besides the command and the state: whose record, and the time of the transaction.

    has_gaps    events of the record cannot be read, perhaps its first: the state lacks them. Only for commands that are
                decided all the same (`types.CommandType.despite_gaps`)
    """

    key: str
    now: datetime
    has_gaps: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Reasons:
    """Which changes of a record need a reason from the person who makes them.

    fields     fields of the state whose change needs one
    message    what a person without a reason reads
    keys       only records whose key this pattern finds; None: all records of the kind
    on_create  does creating the record need one too?
    """

    fields: tuple[str, ...]
    message: str
    keys: re.Pattern[str] | None = None
    on_create: bool = False

    def concerns(self, key: str) -> bool:
        """Does any change of this record need a reason?"""
        return self.keys is None or self.keys.search(key) is not None

    def needed(self, key: str, before: types.JsonDict, after: types.JsonDict, *, created: bool = False) -> bool:
        """Does the change from one dumped state to the other need a reason?"""
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
    commands        command classes this record answers
    policies        field -> how two concurrent changes of it meet (default: a person decides)
    groups          fields that merge or conflict together
    checks          what a merged record must satisfy; what fails them is a conflict
    reasons         which changes need a reason from the person who makes them
    snapshot_every  events between snapshots; 0 = never
    snapshot_days   and when the newest is older than that, with some events after it; 0 = never
    state_version   schema version of `state`; a snapshot of another one is ignored and folded again
    subject         whose personal data the state holds, by a field of it (``user-{key}``, ``form-{form_id}``); None: it
                    holds none. Snapshots are encrypted under that subject's key
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
        """The subject of this stream's state; None where it has none, or does not name it yet."""
        subject = types.parse_subject(self.subject)
        return None if subject is None else subject.of_state(stream, state)

    def fold(self, events: Iterable[types.Event], state: Any = None) -> Any:
        """The state after `events`, from `state` or from the beginning."""
        state = self.initial() if state is None else state
        for event in events:
            state = self.evolve(state, event)
        return state

    def dump(self, state: Any) -> types.JsonDict:
        """The state as JSON, for snapshots and for people."""
        dumped: types.JsonDict = msgspec.to_builtins(state)
        return dumped

    def load(self, data: types.JsonDict) -> Any:
        """A dumped state as its struct; raises `msgspec.ValidationError` when it does not fit."""
        return msgspec.convert(data, self.state)


_by_category: dict[str, Aggregate] = {}
_by_command: dict[type[types.CommandData], Aggregate] = {}


def register(aggregate: Aggregate) -> None:
    """Make a record known; called from `AppConfig.ready()`. Registering the same one again does nothing.

    Refuses a record whose events hold personal data and that does not name the subject of its state: its snapshots
    would keep that data in the clear.
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
    """Is there a kind of record of this category?"""
    return category in _by_category


def of_command(command: type[types.CommandData]) -> Aggregate:
    try:
        return _by_command[command]
    except KeyError:
        raise errors.UnknownCommand(f"No record answers {command.__name__}.") from None


def all_aggregates() -> list[Aggregate]:
    return [_by_category[category] for category in sorted(_by_category)]
