"""Counts in the lists of users and forms: columns and API fields, read by key for one page of rows.

Roles that may not see answers see no timing of single submissions, so they do not see the last submission of a form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from django.utils.translation import gettext_lazy as _
from msgspec import UNSET, UnsetType

from backoffice.section import Column, Extension
from metrics.counters import read
from metrics.counters.applying import NAME


class UserFields(msgspec.Struct, frozen=True, kw_only=True):
    """A user's living forms, their living submissions, and those since the full hour 30 days ago."""

    form_count: int
    submission_count: int
    recent_submissions: int


class FormFields(msgspec.Struct, frozen=True, kw_only=True):
    """A form's living submissions, and the time of the last one."""

    submission_count: int
    last_submission_at: datetime | UnsetType | None = UNSET


def _of_users(keys: Sequence[UUID], _staff: Any) -> Mapping[UUID, Mapping[str, Any]]:
    return {key: msgspec.structs.asdict(counts) for key, counts in read.users(keys).items()}


def _of_forms(keys: Sequence[UUID], _staff: Any) -> Mapping[UUID, Mapping[str, Any]]:
    return {key: msgspec.structs.asdict(counts) for key, counts in read.forms(keys).items()}


EXTENSIONS: Final = (
    Extension(
        category="user",
        columns=(
            Column(label=_("Forms"), value="form_count", number=True, wide=True),
            Column(label=_("Submissions"), value="submission_count", number=True, wide=True),
            Column(label=_("Last 30 days"), value="recent_submissions", number=True, wide=True),
        ),
        load=_of_users,
        item_fields=UserFields,
        fed_by=(NAME,),
    ),
    Extension(
        category="form",
        columns=(
            Column(label=_("Submissions"), value="submission_count", number=True, wide=True),
            Column(label=_("Last submission"), value="last_submission_at", wide=True),
        ),
        load=_of_forms,
        item_fields=FormFields,
        hidden={"viewer": frozenset({"last_submission_at"})},
        fed_by=(NAME,),
    ),
)
