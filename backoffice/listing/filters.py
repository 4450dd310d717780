"""Filters of lists: functions from a value to a condition.

Their `ValueError` says which values they accept: "one of active, archived".
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from django.db.models import Q
from django.utils.dateparse import parse_date, parse_datetime

Filter = Callable[[str], Q]


def choice(column: str, choices: type[Any]) -> Filter:
    def parse(value: str) -> Q:
        if value not in choices.values:
            raise ValueError(f"one of {', '.join(choices.values)}")
        return Q(**{column: value})

    return parse


def boolean(value: str) -> bool:
    known = {"true": True, "1": True, "false": False, "0": False}
    if value.lower() not in known:
        raise ValueError("true or false")
    return known[value.lower()]


def flag(column: str) -> Filter:
    return lambda value: Q(**{column: boolean(value)})


def by_uuid(column: str) -> Filter:
    def parse(value: str) -> Q:
        try:
            return Q(**{column: uuid.UUID(value)})
        except ValueError:
            raise ValueError("a UUID") from None

    return parse


def instant(lookup: str) -> Filter:
    def parse(value: str) -> Q:
        try:
            moment = parse_datetime(value)
            day = parse_date(value) if moment is None else None
        except ValueError:
            moment = day = None
        if day is not None:
            moment = datetime(day.year, day.month, day.day, tzinfo=UTC)
        if moment is None:
            raise ValueError("a date or an instant such as 2026-01-31T12:00:00Z")
        return Q(**{lookup: moment if moment.tzinfo else moment.replace(tzinfo=UTC)})

    return parse


ANY: Final = "any"


def deleted(value: str) -> Q:
    """`false` (default) matches records that are not deleted, `true` deleted ones, `any` both."""
    return Q() if value == ANY else Q(deleted_at__isnull=not boolean(value))


CREATED_FILTERS: Final[Mapping[str, Filter]] = {
    "created_after": instant("created_at__gte"),
    "created_before": instant("created_at__lt"),
    "deleted": deleted,
}
LIVING: Final = {"deleted": "false"}
