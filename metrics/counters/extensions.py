"""Counts of users and forms: columns and sorts of the lists, and API fields.

They are read by key for one page of rows. Records that were never counted come last in both directions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from django.db.models import Model
from django.utils.translation import gettext_lazy as _

from backoffice import listing
from backoffice.section import Column, Extension
from metrics.counters import read
from metrics.counters.applying import NAME
from metrics.counters.models import FormStats, UserStats


class UserFields(msgspec.Struct, frozen=True, kw_only=True):
    """A user's living forms, their living submissions, and those since the full hour 30 days ago.

    They are null for a user who is not counted yet.
    """

    form_count: int | None
    submission_count: int | None
    recent_submissions: int | None


class FormFields(msgspec.Struct, frozen=True, kw_only=True):
    """A form's living submissions, null for a form that is not counted yet, and the time of the last one."""

    submission_count: int | None
    last_submission_at: datetime | None


def _of_users(keys: Sequence[UUID], _staff: Any) -> Mapping[UUID, Mapping[str, Any]]:
    return {key: msgspec.structs.asdict(counts) for key, counts in read.users(keys).items()}


def _of_forms(keys: Sequence[UUID], _staff: Any) -> Mapping[UUID, Mapping[str, Any]]:
    return {key: msgspec.structs.asdict(counts) for key, counts in read.forms(keys).items()}


def _by_user(column: str) -> listing.Sort:
    return listing.Sort(column, nullable=True, parse=int, through=listing.Through(UserStats, "user_id"))


def _by_form(column: str, parse: Callable[[str], Any]) -> listing.Sort:
    return listing.Sort(column, nullable=True, parse=parse, through=listing.Through(FormStats, "form_id"))


# Rows of lists are walked in the order of the counters' indexes: metrics_user_forms, metrics_form_submissions, …
USER_SORTS: Final = {
    "form_count": _by_user("form_count"),
    "submission_count": _by_user("submission_count"),
    "recent_submissions": _by_user("recent"),
}
FORM_SORTS: Final = {
    "submission_count": _by_form("submissions", int),
    "last_submission_at": _by_form("last_at", datetime.fromisoformat),
}


def _number(label: Any, name: str) -> Column:
    return Column(label=label, value=name, sort=f"-{name}", number=True, wide=True, missing=_("not counted yet"))


def _column(model: type[Model], key: str, name: str) -> listing.ForeignColumn:
    return listing.ForeignColumn(listing.Through(model, key), name)


# The same values as `load` reads, in the statement of a list's page.
_USER_COLUMNS: Final = {
    "form_count": _column(UserStats, "user_id", "form_count"),
    "submission_count": _column(UserStats, "user_id", "submission_count"),
    "recent_submissions": _column(UserStats, "user_id", "recent"),
}
_FORM_COLUMNS: Final = {
    "submission_count": _column(FormStats, "form_id", "submissions"),
    "last_submission_at": _column(FormStats, "form_id", "last_at"),
}

EXTENSIONS: Final = (
    Extension(
        category="user",
        columns=(
            _number(_("Forms"), "form_count"),
            _number(_("Submissions"), "submission_count"),
            _number(_("Last 30 days"), "recent_submissions"),
        ),
        sorts=USER_SORTS,
        load=_of_users,
        item_fields=UserFields,
        in_record=True,
        api_columns=_USER_COLUMNS,
        fed_by=(NAME,),
    ),
    Extension(
        category="form",
        columns=(
            _number(_("Submissions"), "submission_count"),
            Column(label=_("Last submission"), value="last_submission_at", sort="-last_submission_at", wide=True),
        ),
        sorts=FORM_SORTS,
        load=_of_forms,
        item_fields=FormFields,
        in_record=True,
        api_columns=_FORM_COLUMNS,
        fed_by=(NAME,),
    ),
)
