"""A form: a title and a list of fields with stable ids. Events, commands, state, evolve, decide, conflicts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from backoffice import bounds, values
from backoffice.lifecycle import Lifecycle
from events import errors
from events.aggregate import Aggregate, Decision
from events.conflicts import OPTIONS, TEXT, KeyedList, References
from events.types import ERASED, CommandData, Event, JsonDict, command_type, event_type

MAX_FIELDS = 1_000
SUBJECT = "form-{key}"
PERSONAL: dict[str, Any] = {"title": ERASED, "description": ERASED, "fields": []}


class OwnerDeleted(errors.Rejected):
    """The owner was deleted: restore the user first."""

    code = "owner_deleted"


# -- events ---------------------------------------------------------------------------------------------------------


@event_type("form.created", personal=PERSONAL, subject=SUBJECT, within="user-{user_id}")
class FormCreated(Event, frozen=True):
    user_id: UUID
    title: str
    description: str
    fields: list[JsonDict]
    created_at: datetime


@event_type("form.updated", personal=PERSONAL, subject=SUBJECT)
class FormUpdated(Event, frozen=True):
    """Contains only the changed fields; `fields` is the whole list, because its order matters."""

    title: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    fields: list[JsonDict] | UnsetType = UNSET
    archived: bool | UnsetType = UNSET


@event_type("form.deleted", subject=SUBJECT)
class FormDeleted(Event, frozen=True):
    deleted_at: datetime


@event_type("form.restored", subject=SUBJECT)
class FormRestored(Event, frozen=True):
    """The deleted form was restored."""


@event_type("form.erased", erases=True)
class FormErased(Event, frozen=True):
    """The key of the form's texts and of its submissions' answers was deleted, often together with its owner's."""

    erased_at: datetime
    deleted_at: datetime


# -- commands -------------------------------------------------------------------------------------------------------


@command_type("form.create")
class CreateForm(CommandData, frozen=True):
    user_id: UUID
    title: values.Title
    description: str = ""
    fields: list[JsonDict] = []
    created_at: datetime | None = None


@command_type("form.update")
class UpdateForm(CommandData, frozen=True):
    title: values.Title | UnsetType = UNSET
    description: str | UnsetType = UNSET
    fields: list[JsonDict] | UnsetType = UNSET
    archived: bool | UnsetType = UNSET


@command_type("form.delete")
class DeleteForm(CommandData, frozen=True):
    pass


@command_type("form.restore")
class RestoreForm(CommandData, frozen=True):
    """Restore a deleted form."""


@command_type("form.erase", despite_gaps=True)
class EraseForm(CommandData, frozen=True):
    """Make a form and the answers to it unreadable for ever. Also sent when its owner is erased."""


# -- state ----------------------------------------------------------------------------------------------------------


class Form(msgspec.Struct, frozen=True, kw_only=True):
    user_id: UUID | None = None
    title: str = ""
    description: str = ""
    fields: list[JsonDict] = []
    archived: bool = False
    created_at: datetime | None = None
    deleted_at: datetime | None = None
    erased_at: datetime | None = None

    @property
    def exists(self) -> bool:
        return self.created_at is not None


def evolve(state: Form, event: Event) -> Form:
    match event:
        case FormCreated() | FormUpdated():
            return msgspec.structs.replace(state, **values.given(event))
        case FormDeleted():
            return msgspec.structs.replace(state, deleted_at=event.deleted_at)
        case FormRestored():
            return msgspec.structs.replace(state, deleted_at=None)
        case FormErased():
            return msgspec.structs.replace(state, **PERSONAL, deleted_at=event.deleted_at, erased_at=event.erased_at)
        case _:
            return state


# -- decide ---------------------------------------------------------------------------------------------------------


def _title(value: str) -> str:
    title = values.normal_name(value)
    if not title:
        raise ValueError("A form needs a title.")
    return title


def checked_fields(fields: Sequence[Any]) -> list[JsonDict]:
    """Returns a form's fields: objects with a unique id and a type. Raises `ValueError` naming the first wrong one."""
    if len(fields) > MAX_FIELDS:
        raise ValueError(f"A form has at most {MAX_FIELDS} fields.")
    seen: set[str] = set()
    for number, field in enumerate(fields, start=1):
        _check_field(number, field, seen)
    return list(fields)


def _check_field(number: int, field: Any, seen: set[str]) -> None:
    identity = field.get("id") if isinstance(field, dict) else None
    if not isinstance(identity, str) or not identity:
        raise ValueError(f"Field {number} needs an id (text).")
    if identity in seen:
        raise ValueError(f"Two fields share the id {identity!r}.")
    if not isinstance(field.get("type"), str) or not field["type"]:
        raise ValueError(f"Field {identity!r} needs a type.")
    if not isinstance(field.get("label", ""), str):
        raise ValueError(f"The label of field {identity!r} must be text.")
    seen.add(identity)


_LIMITS: dict[str, bounds.Limit] = {
    "title": bounds.text(bounds.TITLE),
    "description": bounds.text(bounds.DESCRIPTION),
    "fields": bounds.questions,
}
_RULES: values.Rules = {"title": _title, "fields": checked_fields, "created_at": values.utc_or_none}


_LIFE = Lifecycle(
    rules=_RULES,
    limits=_LIMITS,
    duplicate="A form with this id already exists.",
    missing="There is no such form.",
    erased="This form was erased.",
    deleted="This form was deleted; restore it first.",
)


def decide(command: CommandData, state: Form, at: Decision) -> Sequence[Event]:
    match command:
        case CreateForm():
            return _LIFE.create(command, state, at, FormCreated)
        case UpdateForm():
            return _LIFE.update(command, state, FormUpdated)
        case DeleteForm():
            return _LIFE.delete(state, at, FormDeleted)
        case RestoreForm():
            return _LIFE.restore(state, FormRestored)
        case EraseForm():
            return _LIFE.erase(state, at, FormErased)
        case _:
            raise errors.UnknownCommand


# -- the record -----------------------------------------------------------------------------------------------------

AGGREGATE = Aggregate(
    category="form",
    state=Form,
    initial=Form,
    evolve=evolve,
    decide=decide,
    commands=(CreateForm, UpdateForm, DeleteForm, RestoreForm, EraseForm),
    policies={"fields": KeyedList(item_policies={"options": OPTIONS, "help": TEXT}), "description": TEXT},
    checks=(References("fields", "if"),),
    snapshot_every=20,
    state_version=3,
    subject=SUBJECT,
)
