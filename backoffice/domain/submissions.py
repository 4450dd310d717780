"""What somebody answered. A submission is received once; staff may only remove it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec

from backoffice.domain import values
from events import errors
from events.aggregate import Aggregate, Decision
from events.types import ERASED, CommandData, Event, JsonDict, command_type, event_type

Seconds = Annotated[float, msgspec.Meta(ge=0)]

# What stands where answers were.
NO_ANSWERS: JsonDict = {ERASED: ERASED}
SUBJECT = "form-{form_id}"

# -- events ---------------------------------------------------------------------------------------------------------


# Under the form's key, each submission with a leaf of its own: one key for a million of them, and any of them can be
# erased alone.
@event_type("submission.received", personal={"answers": NO_ANSWERS}, subject=SUBJECT)
class SubmissionReceived(Event, frozen=True):
    form_id: UUID
    answers: JsonDict
    created_at: datetime
    started_at: datetime | None = None
    completion_time: float | None = None


@event_type("submission.deleted", subject="submission-{key}")
class SubmissionDeleted(Event, frozen=True):
    deleted_at: datetime


@event_type("submission.erased", erases=True)
class SubmissionErased(Event, frozen=True):
    """The key of this submission's answers is gone."""

    form_id: UUID
    erased_at: datetime


# -- commands -------------------------------------------------------------------------------------------------------


@command_type("submission.receive")
class ReceiveSubmission(CommandData, frozen=True):
    form_id: UUID
    answers: JsonDict
    started_at: datetime | None = None
    completion_time: Seconds | None = None
    created_at: datetime | None = None


@command_type("submission.delete")
class DeleteSubmission(CommandData, frozen=True):
    pass


@command_type("submission.erase")
class EraseSubmission(CommandData, frozen=True):
    """Make what somebody answered unreadable for ever."""


# -- state ----------------------------------------------------------------------------------------------------------


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    form_id: UUID | None = None
    answers: JsonDict = {}
    started_at: datetime | None = None
    completion_time: float | None = None
    created_at: datetime | None = None
    deleted_at: datetime | None = None

    @property
    def exists(self) -> bool:
        return self.created_at is not None


def evolve(state: Submission, event: Event) -> Submission:
    match event:
        case SubmissionReceived():
            return msgspec.structs.replace(state, **values.given(event))
        case SubmissionDeleted():
            return msgspec.structs.replace(state, deleted_at=event.deleted_at)
        case SubmissionErased():
            return msgspec.structs.replace(state, answers=NO_ANSWERS)
        case _:
            return state


# -- decide ---------------------------------------------------------------------------------------------------------


_RULES: values.Rules = {"started_at": values.utc_or_none, "created_at": values.utc_or_none}


def decide(command: CommandData, state: Submission, at: Decision) -> Sequence[Event]:
    match command:
        case ReceiveSubmission():
            return _receive(command, state, at)
        case DeleteSubmission():
            if not state.exists:
                raise errors.StreamNotFound("There is no such submission.")
            return [SubmissionDeleted(deleted_at=at.now)] if state.deleted_at is None else []
        case EraseSubmission():
            if state.form_id is None:
                raise errors.StreamNotFound("There is no such submission.")
            erased = state.answers == NO_ANSWERS
            return [] if erased else [SubmissionErased(form_id=state.form_id, erased_at=at.now)]
        case _:
            raise errors.UnknownCommand


def _receive(command: ReceiveSubmission, state: Submission, at: Decision) -> Sequence[Event]:
    if state.exists:
        raise errors.Rejected("A submission with this id already exists.", {"key": "already exists"})
    wanted = values.checked(values.given(command), _RULES)
    return [SubmissionReceived(**{**wanted, "created_at": wanted["created_at"] or at.now})]


# -- the record -----------------------------------------------------------------------------------------------------

AGGREGATE = Aggregate(
    category="submission",
    state=Submission,
    initial=Submission,
    evolve=evolve,
    decide=decide,
    commands=(ReceiveSubmission, DeleteSubmission, EraseSubmission),
    snapshot_every=0,
    state_version=2,
    subject=SUBJECT,
)
