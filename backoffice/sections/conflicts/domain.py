"""A change that could not be merged and waits for a person: events, commands, state, evolve, decide.

Nothing of the change was applied. Its events store the command, the three versions and all later actions, so that no
typed input is lost. Each event contains the record's stream, which decides who may see it.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from backoffice import bounds
from events import errors
from events.aggregate import Aggregate, Decision
from events.types import ERASED, CommandData, Event, JsonDict, command_type, event_type

CATEGORY = "conflict"
MAX_COMMENT = 2_000

# Namespace of conflict ids. They are derived from command ids, so that a repeated command is filed once.
NAMESPACE = uuid.UUID("0b0c6f6e-6f0a-5c0d-8a55-5f0e6c1fd2a7")

# A conflict quotes a record, so it is encrypted under the record's subject and erased with it.
SUBJECT = "{stream}"
QUOTED: JsonDict = {
    "command.data": {},
    "command.reason": ERASED,
    "base": {},
    "theirs": {},
    "mine": {},
    "conflicts": [],
    "fingerprint": ERASED,
    "source.client_id": ERASED,  # free text of the client's
}

Why = Literal["conflict", "age"]
Status = Literal["open", "resolved", "dismissed"]
Comment = Annotated[str, msgspec.Meta(max_length=MAX_COMMENT)]


class AlreadySettled(errors.Rejected):
    """This conflict is already closed."""

    code = "already_settled"
    status = 409


def id_for(command_id: uuid.UUID) -> uuid.UUID:
    """Returns the id that a conflict of this command has."""
    return uuid.uuid5(NAMESPACE, str(command_id))


# -- events ---------------------------------------------------------------------------------------------------------


def _check_filed(event: Any) -> None:
    """Checks the types inside the event's JSON objects, on which pages, API and read table rely."""
    command, source = event.command, event.source or {}
    texts = (command.get("type"), command.get("key", ""), command.get("id", ""), command.get("reason") or "")
    if "-" not in event.stream or not all(isinstance(text, str) for text in texts):
        raise ValueError("a conflict names a record, and in texts the command that was asked for")
    if not isinstance(command.get("data", {}), dict):
        raise ValueError("the command of a conflict has an object as its data")
    if "id" in command:
        uuid.UUID(command["id"])
    paths = [*event.fields, *(place.get("path") for place in event.conflicts)]
    if not all(isinstance(path, str) for path in paths):
        raise ValueError("a conflict names what differs by paths")
    if any(isinstance(value, dict | list) for value in source.values()):
        raise ValueError("the source of a conflict is described in texts and numbers")


@event_type("conflict.filed", personal=QUOTED, subject=SUBJECT, check=_check_filed)
class ConflictFiled(Event, frozen=True):
    """A command conflicted with a concurrent change and was not applied.

    stream        stream of the record
    command       ``{id, type, key, data, reason}``
    base_version  version that the author edited
    version       version of the record when the conflict was filed
    base, theirs  the record at these two versions
    mine          `base` with only this command applied
    fields        paths that both sides changed
    conflicts     details of each path
    why           conflict: both sides changed a path; age: the command was queued offline for too long
    source        origin of a command that was queued offline: ``{client_id, seq, queued_at}``
    """

    stream: str
    command: JsonDict
    base_version: int
    version: int
    base: JsonDict
    theirs: JsonDict
    mine: JsonDict
    fields: list[str]
    conflicts: list[JsonDict]
    author: str
    fingerprint: str
    filed_at: datetime
    author_name: str | None = None
    why: Why = "conflict"
    source: JsonDict | None = None


@event_type("conflict.assigned", subject=SUBJECT)
class ConflictAssigned(Event, frozen=True):
    """The conflict was assigned to a login, or to nobody."""

    stream: str
    assignee: int | None


@event_type("conflict.commented", personal=("text",), subject=SUBJECT)
class ConflictCommented(Event, frozen=True):
    stream: str
    text: str


@event_type("conflict.resolved", personal={"values": {}}, subject=SUBJECT)
class ConflictResolved(Event, frozen=True):
    """A person decided every conflicting path.

    choices  path -> theirs | mine | value
    values   path -> typed value
    parents  the two merged versions: ``{base_version, theirs_version}``
    version  version of the record afterwards
    """

    stream: str
    choices: JsonDict
    values: JsonDict
    parents: JsonDict
    version: int


@event_type("conflict.dismissed", subject=SUBJECT)
class ConflictDismissed(Event, frozen=True):
    """The change was discarded. It stays readable in the inbox."""

    stream: str


@event_type("conflict.reopened", subject=SUBJECT)
class ConflictReopened(Event, frozen=True):
    stream: str


# -- commands -------------------------------------------------------------------------------------------------------


@command_type("conflict.file")
class FileConflict(CommandData, frozen=True):
    stream: str
    command: JsonDict
    base_version: int
    version: int
    base: JsonDict
    theirs: JsonDict
    mine: JsonDict
    fields: list[str]
    conflicts: list[JsonDict]
    author: str
    fingerprint: str
    author_name: str | None = None
    why: Why = "conflict"
    source: JsonDict | None = None


@command_type("conflict.assign")
class AssignConflict(CommandData, frozen=True):
    assignee: int | None


@command_type("conflict.comment")
class CommentConflict(CommandData, frozen=True):
    text: Comment


@command_type("conflict.resolve")
class ResolveConflict(CommandData, frozen=True):
    """Closes a conflict. Sent only in the transaction of the change that resolves it."""

    choices: JsonDict
    values: JsonDict
    parents: JsonDict
    version: int


@command_type("conflict.dismiss")
class DismissConflict(CommandData, frozen=True):
    pass


@command_type("conflict.drop", despite_gaps=True)
class DropConflict(CommandData, frozen=True):
    """Dismisses a conflict because its record is erased. Sent only in the transaction of the erasure."""

    stream: str


@command_type("conflict.reopen")
class ReopenConflict(CommandData, frozen=True):
    pass


# -- state ----------------------------------------------------------------------------------------------------------


class Conflict(msgspec.Struct, frozen=True, kw_only=True):
    filed: ConflictFiled | None = None
    status: Status = "open"
    assignee: int | None = None

    @property
    def exists(self) -> bool:
        return self.filed is not None

    @property
    def stream(self) -> str | None:
        """The record's stream, which is also the subject of the quoted data."""
        return None if self.filed is None else self.filed.stream


def evolve(state: Conflict, event: Event) -> Conflict:
    match event:
        case ConflictFiled():
            return msgspec.structs.replace(state, filed=event)
        case ConflictAssigned():
            return msgspec.structs.replace(state, assignee=event.assignee)
        case ConflictResolved():
            return msgspec.structs.replace(state, status="resolved")
        case ConflictDismissed():
            return msgspec.structs.replace(state, status="dismissed")
        case ConflictReopened():
            return msgspec.structs.replace(state, status="open")
        case _:
            return state


# -- decide ---------------------------------------------------------------------------------------------------------


def decide(command: CommandData, state: Conflict, at: Decision) -> Sequence[Event]:
    if isinstance(command, FileConflict | DropConflict):
        return _drop(command, state) if isinstance(command, DropConflict) else _file(command, state, at)
    if state.filed is None:
        raise errors.StreamNotFound("There is no such conflict.")
    stream = state.filed.stream
    match command:
        case AssignConflict():
            _open(state)
            same = command.assignee == state.assignee
            return [] if same else [ConflictAssigned(stream=stream, assignee=command.assignee)]
        case CommentConflict():
            text = command.text.strip()
            if not text:
                raise errors.InvalidCommand(fields={"text": "Enter a comment."})
            bounds.check(command, {"text": text}, {"text": bounds.text(MAX_COMMENT)})
            return [ConflictCommented(stream=stream, text=text)]
        case ResolveConflict():
            _open(state)
            given = {name: getattr(command, name) for name in ("choices", "values", "parents", "version")}
            return [ConflictResolved(stream=stream, **given)]
        case DismissConflict():
            return [] if state.status == "dismissed" else [ConflictDismissed(stream=_open(state))]
        case ReopenConflict():
            if state.status == "resolved":
                raise AlreadySettled(
                    "This conflict was resolved: restore the version you want from the record's history."
                )
            return [] if state.status == "open" else [ConflictReopened(stream=stream)]
        case _:
            raise errors.UnknownCommand


def _drop(command: DropConflict, state: Conflict) -> Sequence[Event]:
    """Dismisses an open conflict, also when its first event cannot be read."""
    return [ConflictDismissed(stream=command.stream)] if state.status == "open" else []


def _file(command: FileConflict, state: Conflict, at: Decision) -> Sequence[Event]:
    """Files a conflict once; another command with the same id is an error."""
    if state.filed is not None:
        if state.filed.fingerprint != command.fingerprint:
            raise errors.IdempotencyKeyReused("This command id was already used for a different command.")
        return []
    given = {name: getattr(command, name) for name in command.__struct_fields__}
    return [ConflictFiled(**given, filed_at=at.now)]


def _open(state: Conflict) -> str:
    """Returns the record's stream. Raises `AlreadySettled` if the conflict is closed."""
    assert state.filed is not None
    if state.status != "open":
        raise AlreadySettled
    return state.filed.stream


# -- the record -----------------------------------------------------------------------------------------------------

AGGREGATE = Aggregate(
    category=CATEGORY,
    state=Conflict,
    initial=Conflict,
    evolve=evolve,
    decide=decide,
    commands=(
        FileConflict,
        AssignConflict,
        CommentConflict,
        ResolveConflict,
        DismissConflict,
        DropConflict,
        ReopenConflict,
    ),
    state_version=2,
    subject=SUBJECT,
)
