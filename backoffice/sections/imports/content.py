"""The content of an import's commands: the form, its submissions and their corrections."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from backoffice.sections.forms import domain as forms
from backoffice.sections.imports import identity, rows
from backoffice.sections.imports.destinations import Destination
from backoffice.sections.submissions import domain as submissions
from events.types import CommandData


def form_change(plan: rows.Plan, found: Destination, state: forms.Form, description: str) -> CommandData | None:
    if found.version == 0:
        fields = [made.field for made in plan.fields]
        return forms.CreateForm(user_id=found.owner_id, title=found.title, description=description, fields=fields)
    if found.new_fields:
        return forms.UpdateForm(fields=[*state.fields, *found.new_fields])
    return None


def received(form_id: uuid.UUID, row: rows.Row) -> submissions.ReceiveSubmission:
    return submissions.ReceiveSubmission(
        form_id=form_id,
        answers=row.answers,
        started_at=row.started_at,
        completion_time=row.completion_time,
        created_at=row.created_at,
    )


def corrected(stored: identity.Stored, row: rows.Row, fields: Sequence[str]) -> submissions.CorrectSubmission:
    return submissions.CorrectSubmission(
        answers=identity.merged(stored, row, fields), **identity.changed_times(stored, row)
    )
