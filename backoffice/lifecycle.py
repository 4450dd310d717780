"""The rules that records share which are created, changed, deleted, restored and erased: users and forms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from backoffice import bounds, values
from events import errors
from events.aggregate import Decision
from events.types import CommandData, Event


class State(Protocol):
    """The state of such a record."""

    @property
    def exists(self) -> bool: ...
    @property
    def deleted_at(self) -> datetime | None: ...
    @property
    def erased_at(self) -> datetime | None: ...


S = TypeVar("S", bound=State)


@dataclass(frozen=True, kw_only=True, slots=True)
class Lifecycle:
    """Which commands a record in which state accepts, and the events that they lead to.

    rules, limits  of its fields
    duplicate, missing, erased, deleted  the messages for a command that the record's state does not allow
    """

    rules: values.Rules
    limits: Mapping[str, bounds.Limit]
    duplicate: str
    missing: str
    erased: str
    deleted: str

    def create(self, command: CommandData, state: State, at: Decision, created: Callable[..., Event]) -> list[Event]:
        if state.exists:
            raise errors.Rejected(self.duplicate, {"key": "already exists"})
        wanted = values.checked(values.given(command), self.rules)
        bounds.check(state, wanted, self.limits)
        return [created(**{**wanted, "created_at": wanted["created_at"] or at.now})]

    def update(self, command: CommandData, state: State, updated: Callable[..., Event]) -> list[Event]:
        wanted = values.checked(values.given(command), self.rules)
        changed = values.changes(self._living(state), wanted)
        bounds.check(state, changed, self.limits)
        return [updated(**changed)] if changed else []

    def delete(self, state: State, at: Decision, deleted: Callable[..., Event]) -> list[Event]:
        return [deleted(deleted_at=at.now)] if self._known(state).deleted_at is None else []

    def restore(self, state: State, restored: Callable[..., Event]) -> list[Event]:
        return [restored()] if self._kept(state).deleted_at is not None else []

    def erase(self, state: State, at: Decision, erased: Callable[..., Event]) -> list[Event]:
        """A record whose creation cannot be read any more can be erased too."""
        done = (state if at.has_gaps else self._known(state)).erased_at is not None
        return [] if done else [erased(erased_at=at.now, deleted_at=state.deleted_at or at.now)]

    def _known(self, state: S) -> S:
        if not state.exists:
            raise errors.StreamNotFound(self.missing)
        return state

    def _kept(self, state: S) -> S:
        if self._known(state).erased_at is not None:
            raise errors.Erased(self.erased)
        return state

    def _living(self, state: S) -> S:
        if self._kept(state).deleted_at is not None:
            raise errors.Rejected(self.deleted)
        return state
