"""Rules shared by records that are created, updated, deleted, restored and, if declared, erased."""

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
    """The attributes that the state of a record needs, besides `erased_at` if the record can be erased."""

    @property
    def exists(self) -> bool: ...
    @property
    def deleted_at(self) -> datetime | None: ...


S = TypeVar("S", bound=State)


@dataclass(frozen=True, kw_only=True, slots=True)
class Lifecycle:
    """Turns commands into events, and rejects commands that the record's state does not allow.

    rules      field -> function that checks and normalises a value
    limits     field -> size limit
    duplicate  message when a record with the same key exists
    missing    message when the record does not exist
    deleted    message when a deleted record is updated
    erased     message when an erased record is updated or restored
    """

    rules: values.Rules
    limits: Mapping[str, bounds.Limit]
    duplicate: str
    missing: str
    deleted: str
    erased: str = ""

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
        """Erases also a record whose creation cannot be read any more."""
        done = _is_erased(state if at.has_gaps else self._known(state))
        return [] if done else [erased(erased_at=at.now, deleted_at=state.deleted_at or at.now)]

    def _known(self, state: S) -> S:
        if not state.exists:
            raise errors.StreamNotFound(self.missing)
        return state

    def _kept(self, state: S) -> S:
        if _is_erased(self._known(state)):
            raise errors.Erased(self.erased)
        return state

    def _living(self, state: S) -> S:
        if self._kept(state).deleted_at is not None:
            raise errors.Rejected(self.deleted)
        return state


def _is_erased(state: State) -> bool:
    return getattr(state, "erased_at", None) is not None
