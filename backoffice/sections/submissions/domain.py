"""Answers to a form. A submission is received once; afterwards its source may correct it and staff may remove it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from backoffice import bounds, values
from events import errors
from events.aggregate import Aggregate, Decision
from events.types import ERASED, CommandData, Event, JsonDict, command_type, event_type

Seconds = Annotated[float, msgspec.Meta(ge=0)]

# Replaces erased answers.
NO_ANSWERS: JsonDict = {ERASED: ERASED}
SUBJECT = "form-{form_id}"


class FormDeleted(errors.Rejected):
    """This form was deleted: restore it first."""

    code = "form_deleted"


class FormArchived(errors.Rejected):
    """This form is archived: it accepts no more submissions."""

    code = "form_archived"


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


@event_type("submission.corrected", personal={"answers": NO_ANSWERS}, subject="form-{form_id}")
class SubmissionCorrected(Event, frozen=True):
    """The source corrected answers or times. Contains only the changed fields; `answers` is the whole map."""

    form_id: UUID
    answers: JsonDict | UnsetType = UNSET
    started_at: datetime | UnsetType | None = UNSET
    completion_time: float | UnsetType | None = UNSET
    created_at: datetime | UnsetType = UNSET


@event_type("submission.deleted", subject="submission-{key}")
class SubmissionDeleted(Event, frozen=True):
    deleted_at: datetime


@event_type("submission.erased", erases=True)
class SubmissionErased(Event, frozen=True):
    """The key of the answers was deleted. `form_id` is None if no event that contains it can be read."""

    form_id: UUID | None
    erased_at: datetime


# -- commands -------------------------------------------------------------------------------------------------------


@command_type("submission.receive")
class ReceiveSubmission(CommandData, frozen=True):
    form_id: UUID
    answers: JsonDict
    started_at: datetime | None = None
    completion_time: Seconds | None = None
    created_at: datetime | None = None


@command_type("submission.correct")
class CorrectSubmission(CommandData, frozen=True):
    """Replace answers or times by corrected ones from the source."""

    answers: JsonDict | UnsetType = UNSET
    started_at: datetime | UnsetType | None = UNSET
    completion_time: Seconds | UnsetType | None = UNSET
    created_at: datetime | UnsetType = UNSET


@command_type("submission.delete")
class DeleteSubmission(CommandData, frozen=True):
    pass


@command_type("submission.erase", despite_gaps=True)
class EraseSubmission(CommandData, frozen=True):
    """Make the answers of a submission unreadable for ever."""


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
        case SubmissionReceived() | SubmissionCorrected():
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
        case CorrectSubmission():
            return _correct(command, state)
        case DeleteSubmission():
            if not state.exists:
                raise errors.StreamNotFound("There is no such submission.")
            return [SubmissionDeleted(deleted_at=at.now)] if state.deleted_at is None else []
        case EraseSubmission():
            if state.form_id is None and not at.has_gaps:
                raise errors.StreamNotFound("There is no such submission.")
            erased = state.answers == NO_ANSWERS
            return [] if erased else [SubmissionErased(form_id=state.form_id, erased_at=at.now)]
        case _:
            raise errors.UnknownCommand


def _receive(command: ReceiveSubmission, state: Submission, at: Decision) -> Sequence[Event]:
    if state.exists:
        raise errors.Rejected("A submission with this id already exists.", {"key": "already exists"})
    wanted = values.checked(values.given(command), _RULES)
    bounds.check(state, wanted, {"answers": bounds.answers})
    return [SubmissionReceived(**{**wanted, "created_at": wanted["created_at"] or at.now})]


def _correct(command: CorrectSubmission, state: Submission) -> Sequence[Event]:
    if state.form_id is None:
        raise errors.StreamNotFound("There is no such submission.")
    if state.answers == NO_ANSWERS:
        raise errors.Erased("This submission was erased.")
    if state.deleted_at is not None:
        raise errors.Rejected("This submission was deleted.")
    changed = values.changes(state, values.checked(values.given(command), _RULES))
    return [SubmissionCorrected(form_id=state.form_id, **changed)] if changed else []


# -- the record -----------------------------------------------------------------------------------------------------

AGGREGATE = Aggregate(
    category="submission",
    state=Submission,
    initial=Submission,
    evolve=evolve,
    decide=decide,
    commands=(ReceiveSubmission, CorrectSubmission, DeleteSubmission, EraseSubmission),
    state_version=2,
    subject=SUBJECT,
)
