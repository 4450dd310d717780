"""A note: a title and a text. Events, commands, state, evolve, decide."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec
from msgspec import UNSET, UnsetType

from backoffice import values
from events import errors
from events.aggregate import Aggregate, Decision
from events.types import CommandData, Event, command_type, event_type


@event_type("note.created")
class NoteCreated(Event, frozen=True):
    title: str
    text: str
    created_at: datetime


@event_type("note.updated")
class NoteUpdated(Event, frozen=True):
    title: str | UnsetType = UNSET
    text: str | UnsetType = UNSET


@event_type("note.deleted")
class NoteDeleted(Event, frozen=True):
    deleted_at: datetime


@command_type("note.create")
class CreateNote(CommandData, frozen=True):
    title: str
    text: str = ""


@command_type("note.update")
class UpdateNote(CommandData, frozen=True):
    title: str | UnsetType = UNSET
    text: str | UnsetType = UNSET


@command_type("note.delete")
class DeleteNote(CommandData, frozen=True):
    pass


class Note(msgspec.Struct, frozen=True, kw_only=True):
    title: str = ""
    text: str = ""
    created_at: datetime | None = None
    deleted_at: datetime | None = None


def evolve(state: Note, event: Event) -> Note:
    match event:
        case NoteCreated() | NoteUpdated() | NoteDeleted():
            return msgspec.structs.replace(state, **values.given(event))
        case _:
            return state


def decide(command: CommandData, state: Note, at: Decision) -> Sequence[Event]:
    if isinstance(command, CreateNote):
        if state.created_at is not None:
            raise errors.Rejected("A note with this id already exists.", {"key": "already exists"})
        return [NoteCreated(title=command.title, text=command.text, created_at=at.now)]
    if state.created_at is None:
        raise errors.StreamNotFound("There is no such note.")
    match command:
        case UpdateNote():
            changed = values.changes(state, values.given(command))
            return [NoteUpdated(**changed)] if changed else []
        case DeleteNote():
            return [NoteDeleted(deleted_at=at.now)] if state.deleted_at is None else []
        case _:
            raise errors.UnknownCommand


AGGREGATE = Aggregate(
    category="note",
    state=Note,
    initial=Note,
    evolve=evolve,
    decide=decide,
    commands=(CreateNote, UpdateNote, DeleteNote),
)
