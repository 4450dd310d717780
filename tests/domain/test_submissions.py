"""Decisions about submissions: received once, corrected, deleted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest

from backoffice.sections.submissions.domain import (
    AGGREGATE,
    NO_ANSWERS,
    CorrectSubmission,
    DeleteSubmission,
    ReceiveSubmission,
    SubmissionCorrected,
    SubmissionDeleted,
    SubmissionErased,
    SubmissionReceived,
)
from events import errors, testing
from events.aggregate import Decision

NOW = testing.NOW
FORM = UUID("018f0000-0000-7000-8000-0000000000bb")
given = testing.decider(AGGREGATE)


def received(**fields: Any) -> SubmissionReceived:
    return SubmissionReceived(**{"form_id": FORM, "answers": {"a": 1}, "created_at": NOW} | fields)


def test_answers_are_stored_unchanged() -> None:
    answers = {"name": "Zoë", "many": [1, 2.5, None, True], "nested": {"deep": {"er": []}}}
    given().when(ReceiveSubmission(form_id=FORM, answers=answers)).then(received(answers=answers)).then_state(
        form_id=FORM, answers=answers, created_at=NOW, deleted_at=None
    )


def test_times_are_stored_in_utc_and_durations_unchanged() -> None:
    tokyo = datetime(2026, 1, 1, 9, tzinfo=timezone(timedelta(hours=9)))
    midnight = datetime(2026, 1, 1, tzinfo=UTC)
    given().when(
        ReceiveSubmission(form_id=FORM, answers={}, started_at=tokyo, created_at=tokyo, completion_time=0.0)
    ).then(received(answers={}, started_at=midnight, created_at=midnight, completion_time=0.0))


@pytest.mark.parametrize("past", [(received(),), (received(), SubmissionDeleted(deleted_at=NOW))])
def test_submission_is_received_once(past: tuple) -> None:
    given(*past).when(ReceiveSubmission(form_id=FORM, answers={"a": 2})).then_rejected(
        "already exists", field="key", error=errors.Rejected
    )


def test_correction_contains_only_changes() -> None:
    later = NOW + timedelta(hours=1)
    command = CorrectSubmission(answers={"a": 1}, started_at=later, created_at=NOW)
    given(received()).when(command).then(SubmissionCorrected(form_id=FORM, started_at=later)).then_state(
        answers={"a": 1}, started_at=later
    )
    given(received()).when(CorrectSubmission(answers={"a": 1})).then_nothing()


def test_corrected_answers_replace_all_answers() -> None:
    given(received(answers={"a": 1, "b": 2})).when(CorrectSubmission(answers={"b": 3})).then(
        SubmissionCorrected(form_id=FORM, answers={"b": 3})
    ).then_state(answers={"b": 3}, created_at=NOW)


def test_correction_obeys_the_rules_of_new_submissions() -> None:
    given(received()).when(CorrectSubmission(created_at=datetime(1850, 1, 1, tzinfo=UTC))).then_rejected(
        "year", field="created_at", error=errors.InvalidCommand
    )


def test_deleted_submission_is_not_corrected() -> None:
    command = CorrectSubmission(answers={"a": 2})
    given().when(command).then_not_found("no such submission")
    given(received(), SubmissionDeleted(deleted_at=NOW)).when(command).then_rejected("deleted", error=errors.Rejected)
    state = AGGREGATE.fold([received(), SubmissionErased(form_id=FORM, erased_at=NOW)])
    assert state.answers == NO_ANSWERS
    with pytest.raises(errors.Erased):
        AGGREGATE.decide(command, state, Decision(key="x", now=NOW))


def test_submission_is_deleted_once() -> None:
    gone = given(received()).when(DeleteSubmission()).then(SubmissionDeleted(deleted_at=NOW)).then_state(deleted_at=NOW)
    gone.and_given().when(DeleteSubmission()).then_nothing()


def test_missing_submission_cannot_be_deleted() -> None:
    given().when(DeleteSubmission()).then_not_found("no such submission")
