"""Counts in the lists of users and forms: columns and API fields, read by key for one page of rows.

Roles that may not see answers see no timing of single submissions, so they do not see the last submission of a form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from django.db.models import Model
from django.utils.translation import gettext_lazy as _
from msgspec import UNSET, UnsetType

from backoffice import listing
from backoffice.section import Column, Extension
from metrics.counters import read
from metrics.counters.applying import NAME
from metrics.counters.models import FormStats, UserStats


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


def _column(model: type[Model], key: str, name: str, default: int | None = 0) -> listing.ForeignColumn:
    return listing.ForeignColumn(listing.Through(model, key), name, default)


# The same values as `load` reads, in the statement of a list's page.
_USER_COLUMNS: Final = {
    "form_count": _column(UserStats, "user_id", "form_count"),
    "submission_count": _column(UserStats, "user_id", "submission_count"),
    "recent_submissions": _column(UserStats, "user_id", "recent"),
}
_FORM_COLUMNS: Final = {
    "submission_count": _column(FormStats, "form_id", "submissions"),
    "last_submission_at": _column(FormStats, "form_id", "last_at", None),
}

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
        api_columns=_USER_COLUMNS,
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
        api_columns=_FORM_COLUMNS,
        hidden={"viewer": frozenset({"last_submission_at"})},
        fed_by=(NAME,),
    ),
)
