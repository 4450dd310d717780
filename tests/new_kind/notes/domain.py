"""A note: a title, a text, whether it is pinned. Events, commands, state, evolve, decide."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec
from msgspec import UNSET, UnsetType

from backoffice import bounds, values
from backoffice.lifecycle import Lifecycle
from events import errors
from events.aggregate import Aggregate, Decision
from events.types import CommandData, Event, command_type, event_type


@event_type("note.created")
class NoteCreated(Event, frozen=True):
    title: str
    text: str
    pinned: bool
    created_at: datetime


@event_type("note.updated")
class NoteUpdated(Event, frozen=True):
    title: str | UnsetType = UNSET
    text: str | UnsetType = UNSET
    pinned: bool | UnsetType = UNSET


@event_type("note.deleted")
class NoteDeleted(Event, frozen=True):
    deleted_at: datetime


@event_type("note.restored")
class NoteRestored(Event, frozen=True):
    pass


@command_type("note.create")
class CreateNote(CommandData, frozen=True):
    title: str
    text: str = ""
    pinned: bool = False
    created_at: datetime | None = None


@command_type("note.update")
class UpdateNote(CommandData, frozen=True):
    title: str | UnsetType = UNSET
    text: str | UnsetType = UNSET
    pinned: bool | UnsetType = UNSET


@command_type("note.delete")
class DeleteNote(CommandData, frozen=True):
    pass


@command_type("note.restore")
class RestoreNote(CommandData, frozen=True):
    pass


class Note(msgspec.Struct, frozen=True, kw_only=True):
    title: str = ""
    text: str = ""
    pinned: bool = False
    created_at: datetime | None = None
    deleted_at: datetime | None = None

    @property
    def exists(self) -> bool:
        return self.created_at is not None


def evolve(state: Note, event: Event) -> Note:
    match event:
        case NoteCreated() | NoteUpdated() | NoteDeleted():
            return msgspec.structs.replace(state, **values.given(event))
        case NoteRestored():
            return msgspec.structs.replace(state, deleted_at=None)
        case _:
            return state


def _title(value: str) -> str:
    title = values.normal_name(value)
    if not title:
        raise ValueError("Enter a title.")
    return title


LIFECYCLE = Lifecycle(
    rules={"title": _title, "created_at": values.utc_or_none},
    limits={"title": bounds.text(bounds.TITLE), "text": bounds.text(bounds.DESCRIPTION)},
    duplicate="A note with this id already exists.",
    missing="There is no such note.",
    deleted="This note was deleted; restore it first.",
)


def decide(command: CommandData, state: Note, at: Decision) -> Sequence[Event]:
    match command:
        case CreateNote():
            return LIFECYCLE.create(command, state, at, NoteCreated)
        case UpdateNote():
            return LIFECYCLE.update(command, state, NoteUpdated)
        case DeleteNote():
            return LIFECYCLE.delete(state, at, NoteDeleted)
        case RestoreNote():
            return LIFECYCLE.restore(state, NoteRestored)
        case _:
            raise errors.UnknownCommand


AGGREGATE = Aggregate(
    category="note",
    state=Note,
    initial=Note,
    evolve=evolve,
    decide=decide,
    commands=(CreateNote, UpdateNote, DeleteNote, RestoreNote),
)
