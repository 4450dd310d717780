"""Values that several records share, and the rules that check them. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from backoffice.domain import bounds
from events import errors

Plan = Literal["free", "premium", "enterprise"]
Role = Literal["member", "owner", "partner"]

PLANS: tuple[Plan, ...] = ("free", "premium", "enterprise")
ROLES: tuple[Role, ...] = ("member", "owner", "partner")

Name = Annotated[str, msgspec.Meta(max_length=bounds.NAME)]
Title = Annotated[str, msgspec.Meta(max_length=bounds.TITLE)]

# One at sign, no spaces, a dot in the domain: what RFC 5321 mailboxes people really have look like.
_EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")


def normal_email(value: str) -> str:
    """The address as it is kept and compared: trimmed, lower case. Raises `ValueError` when it is none."""
    address = value.strip().lower()
    if len(address) > 254 or not _EMAIL.fullmatch(address):
        raise ValueError("Enter a valid email address.")
    return address


def normal_name(value: str) -> str:
    return " ".join(value.split())


FIRST_YEAR, LAST_YEAR = 1900, 9000  # beyond them PostgreSQL and Python part ways


def utc(moment: datetime) -> datetime:
    """An aware datetime in UTC; one without a zone is taken as UTC. Raises `ValueError` for years nobody means."""
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        raise ValueError(f"The year must be between {FIRST_YEAR} and {LAST_YEAR}.")
    return (moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment).astimezone(UTC)


def utc_or_none(moment: datetime | None) -> datetime | None:
    return None if moment is None else utc(moment)


Rules: TypeAlias = Mapping[str, Callable[[Any], Any]]


def checked(values: Mapping[str, Any], rules: Rules) -> dict[str, Any]:
    """`values` put through the rule of each field; all complaints at once, as `errors.InvalidCommand`."""
    result, complaints = dict(values), {}
    for name, rule in rules.items():
        if name in result and result[name] is not msgspec.UNSET:
            try:
                result[name] = rule(result[name])
            except ValueError as error:
                complaints[name] = str(error)
    if complaints:
        raise errors.InvalidCommand(fields=complaints)
    return result


def given(command: Any) -> dict[str, Any]:
    """The fields of a command or event that were given a value: unset is not null."""
    found = {}
    for name in command.__struct_fields__:
        value = getattr(command, name)
        if value is not msgspec.UNSET:
            found[name] = value
    return found


def changes(state: Any, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The part of `wanted` that differs from what the state holds."""
    return {name: value for name, value in wanted.items() if getattr(state, name) != value}
