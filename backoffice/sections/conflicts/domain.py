"""A change that could not be merged, waiting for a person: events, commands, state, evolve, decide.

Nothing of it was applied. What its author wanted, the three versions it was about and who does what about it are here,
so that nothing that was typed is ever lost. Each event names the record's stream: what may be shown depends on it.
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

# Namespace of conflict ids: the id follows from the command's, so that a command that is sent again is filed once.
NAMESPACE = uuid.UUID("0b0c6f6e-6f0a-5c0d-8a55-5f0e6c1fd2a7")

# A conflict quotes a record, so it is about whoever that is about, and goes with them.
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
    """The conflict of a command, if there is one."""
    return uuid.uuid5(NAMESPACE, str(command_id))


# -- events ---------------------------------------------------------------------------------------------------------


def _check_filed(event: Any) -> None:
    """What pages, API and read table take for granted of the objects in it."""
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
    """stream    the record's
    command      what was asked for: ``{id, type, key, data, reason}``; nothing of it was applied
    base_version the version its author began with; `version` the record's when it was filed
    base, theirs, mine   the record then, now, and as this command alone would have left it
    fields       the paths that both changed; `conflicts` what is known of each
    why          conflict: both changed the same; age: it waited too long offline to be applied unseen
    source       where it came from when it was queued offline: ``{client_id, seq, queued_at}``
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
    """To whom it falls to settle it; None: to nobody in particular."""

    stream: str
    assignee: int | None


@event_type("conflict.commented", personal=("text",), subject=SUBJECT)
class ConflictCommented(Event, frozen=True):
    stream: str
    text: str


@event_type("conflict.resolved", personal={"values": {}}, subject=SUBJECT)
class ConflictResolved(Event, frozen=True):
    """choices    path -> theirs | mine | value; `values` those that were typed
    parents       the two versions brought together: ``{base_version, theirs_version}``
    version       of the record afterwards
    """

    stream: str
    choices: JsonDict
    values: JsonDict
    parents: JsonDict
    version: int


@event_type("conflict.dismissed", subject=SUBJECT)
class ConflictDismissed(Event, frozen=True):
    """The change is not wanted any more. It stays readable here."""

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
    """Only ever sent beside the change that settles it, in the same transaction."""

    choices: JsonDict
    values: JsonDict
    parents: JsonDict
    version: int


@command_type("conflict.dismiss")
class DismissConflict(CommandData, frozen=True):
    pass


@command_type("conflict.drop", despite_gaps=True)
class DropConflict(CommandData, frozen=True):
    """Dismiss it because the record it is about is erased. Only ever sent beside that, in the same transaction."""

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
        """The record's stream, which is the subject of all that is quoted here."""
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
    """Also where what was filed cannot be read."""
    return [ConflictDismissed(stream=command.stream)] if state.status == "open" else []


def _file(command: FileConflict, state: Conflict, at: Decision) -> Sequence[Event]:
    """Once; the same command again is the same conflict, another one under its id is a mistake."""
    if state.filed is not None:
        if state.filed.fingerprint != command.fingerprint:
            raise errors.IdempotencyKeyReused("This command id was already used for a different command.")
        return []
    given = {name: getattr(command, name) for name in command.__struct_fields__}
    return [ConflictFiled(**given, filed_at=at.now)]


def _open(state: Conflict) -> str:
    """The record's stream, if nobody has settled this."""
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
    snapshot_every=0,
    state_version=2,
    subject=SUBJECT,
)
