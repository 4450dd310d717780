"""Folds a batch of events into deltas. Pure: no database; data of earlier events are passed in as `Facts`."""

from __future__ import annotations

import decimal
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final

import msgspec

from events.types import JsonDict, RecordedEvent, key_of
from metrics import effects

# Enough digits for the sum of any two finite doubles, so that sums are exact.
EXACT: Final = decimal.Context(prec=700)

USER_ALIVE: Final = {"user.created": True, "user.restored": True, "user.deleted": False, "user.erased": False}
FORM_ALIVE: Final = {"form.created": True, "form.restored": True, "form.deleted": False, "form.erased": False}
RECEIVED: Final = "submission.received"
CORRECTED: Final = "submission.corrected"
DELETED: Final = "submission.deleted"

# The events that change a counter. Archiving a form and erasing a submission change none.
TYPES: Final = effects.COUNTED

COUNTED_FIELDS: Final = ("created_at", "completion_time")


class Facts(msgspec.Struct, frozen=True):
    """The part of a submission that is counted."""

    form_id: str
    created_at: datetime
    seconds: Decimal | None

    def corrected(self, data: JsonDict) -> Facts:
        """The facts after a correction with this data."""
        created_at = instant(data["created_at"]) if "created_at" in data else self.created_at
        time = seconds(data["completion_time"]) if "completion_time" in data else self.seconds
        return Facts(self.form_id, created_at, time)


class FormDelta(msgspec.Struct):
    """Changes of one form. `recent`: those of `submissions` since `recent_from`; `removed`: times of deleted ones."""

    user_id: str | None = None
    alive: bool | None = None
    submissions: int = 0
    recent: int = 0
    last_at: datetime | None = None
    removed: set[datetime] = msgspec.field(default_factory=set)


class DayDelta(msgspec.Struct):
    """Changes of one day (UTC)."""

    users_created: int = 0
    forms_created: int = 0
    submissions: int = 0
    timed: int = 0
    seconds: Decimal = Decimal(0)


class Deltas(msgspec.Struct):
    """Changes by a batch: of users, forms, hours of forms and days.

    `users` says whether each is alive; `owners` are (day, user) of new forms.
    """

    recent_from: datetime
    kept_from: datetime
    users: dict[str, bool] = {}
    forms: dict[str, FormDelta] = {}
    hours: Counter[tuple[str, datetime]] = msgspec.field(default_factory=Counter)
    days: dict[date, DayDelta] = {}
    owners: set[tuple[date, str]] = set()

    def form(self, key: str) -> FormDelta:
        return self.forms.setdefault(key, FormDelta())

    def day(self, moment: datetime) -> DayDelta:
        return self.days.setdefault(moment.date(), DayDelta())

    def count(self, facts: Facts, sign: int) -> None:
        """Add (1) or subtract (-1) one submission."""
        form, day, hour = self.form(facts.form_id), self.day(facts.created_at), full_hour(facts.created_at)
        form.submissions += sign
        if hour >= self.recent_from:
            form.recent += sign
        if hour >= self.kept_from:
            self.hours[facts.form_id, hour] += sign
        if sign > 0:
            form.last_at = max(form.last_at or facts.created_at, facts.created_at)
        else:
            form.removed.add(facts.created_at)
        day.submissions += sign
        if facts.seconds is not None:
            day.timed += sign
            day.seconds = EXACT.add(day.seconds, EXACT.multiply(sign, facts.seconds))


def fold(
    events: Iterable[RecordedEvent], before: Mapping[int, Facts], recent_from: datetime, kept_from: datetime
) -> Deltas:
    """Fold readable events in order; `before` has the facts that a correction or deletion replaces, by position."""
    deltas = Deltas(recent_from, kept_from)
    for event in events:
        name, data = event.type, event.data
        if name == RECEIVED:
            deltas.count(facts_of(data), 1)
        elif name == DELETED:
            deltas.count(before[event.position], -1)
        elif name == CORRECTED:
            if event.position in before:
                deltas.count(before[event.position], -1)
                deltas.count(before[event.position].corrected(data), 1)
        elif name in USER_ALIVE:
            deltas.users[key_of(event.stream)] = USER_ALIVE[name]
            if name == "user.created":
                deltas.day(instant(data["created_at"])).users_created += 1
        elif name in FORM_ALIVE:
            form = deltas.form(key_of(event.stream))
            form.alive = FORM_ALIVE[name]
            if name == "form.created":
                created_at, form.user_id = instant(data["created_at"]), data["user_id"]
                deltas.day(created_at).forms_created += 1
                deltas.owners.add((created_at.date(), data["user_id"]))
    return deltas


def replaces_facts(event: RecordedEvent) -> bool:
    """True for a correction of something counted and for a deletion: both need the facts before them."""
    return event.type == DELETED or (event.type == CORRECTED and any(name in event.data for name in COUNTED_FIELDS))


def facts_of(data: JsonDict) -> Facts:
    """The counted part of the data of `submission.received`."""
    return Facts(data["form_id"], instant(data["created_at"]), seconds(data.get("completion_time")))


def instant(text: str) -> datetime:
    """A stored time, in UTC."""
    return datetime.fromisoformat(text).astimezone(UTC)


def seconds(value: Any) -> Decimal | None:
    """A completion time as the shortest decimal that is this double, as PostgreSQL prints it."""
    return None if value is None else Decimal(repr(float(value)))


def full_hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)
