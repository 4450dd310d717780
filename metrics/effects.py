"""The effects of each event on readers: topics, tags of cached values, counters. One row for each type of event.

The counters take the events that they handle from here, and the cache the tags that name data. Topics are declared by
the kinds of records, and hard events by `events.freshness`: a test produces every event and compares what happens with
its row. Pure: nothing is imported but the shape of an event.

    topics    that carry the event to at least one role; ``{key}`` is the key of its record
    tags      that invalidate cached values; ``{user_id}`` stands for that field of its data
    hard      the event also invalidates values that may be some seconds old
    counters  ``table.column`` of the counters that it can change; ``total`` stands for the totals

`system.alert` and `metrics.updated` are ephemeral frames and no events: they change nothing that is stored.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Final

import msgspec

from events.types import RecordedEvent


class Effects(msgspec.Struct, frozen=True):
    """The effects of one type of event; the module's docstring explains the fields."""

    topics: tuple[str, ...]
    tags: tuple[str, ...]
    hard: bool = False
    counters: tuple[str, ...] = ()


_USER: Final = ("users", "user:{key}")
_FORM: Final = ("forms", "form:{key}")
_USER_TAGS: Final = ("user", "user-{key}")
_FORM_TAGS: Final = ("form", "form-{key}")
_SUBMISSION_TAGS: Final = ("submission", "submission-{key}")

# A form that comes or goes takes its submissions along, except from the figures of days, which are facts.
_LIVING_FORM: Final = (
    "form.alive",
    "user.form_count",
    "user.submission_count",
    "user.recent",
    "user.last_at",
    "total.form_count",
    "total.submission_count",
)
_TIMES: Final = ("form.last_at", "user.recent", "user.last_at", "hour.n", "day.submissions", "day.timed", "day.seconds")
_SUBMISSION: Final = ("form.submissions", "user.submission_count", "total.submission_count", *_TIMES)

EFFECTS: Final[Mapping[str, Effects]] = {
    "user.created": Effects(_USER, _USER_TAGS, counters=("user.alive", "total.user_count", "day.users_created")),
    "user.updated": Effects(_USER, _USER_TAGS),
    "user.deleted": Effects(_USER, _USER_TAGS, hard=True, counters=("user.alive", "total.user_count")),
    "user.restored": Effects(_USER, _USER_TAGS, hard=True, counters=("user.alive", "total.user_count")),
    "user.erased": Effects(_USER, _USER_TAGS, hard=True, counters=("user.alive", "total.user_count")),
    "form.created": Effects(
        _FORM,
        (*_FORM_TAGS, "user-{user_id}"),
        counters=("form.alive", "user.form_count", "total.form_count", "day.forms_created", "day.unique_users"),
    ),
    "form.updated": Effects(_FORM, _FORM_TAGS),
    "form.deleted": Effects(_FORM, _FORM_TAGS, hard=True, counters=_LIVING_FORM),
    "form.restored": Effects(_FORM, _FORM_TAGS, hard=True, counters=_LIVING_FORM),
    "form.erased": Effects((*_FORM, "submissions"), _FORM_TAGS, hard=True, counters=_LIVING_FORM),
    "submission.received": Effects(("submissions",), _SUBMISSION_TAGS, counters=_SUBMISSION),
    "submission.corrected": Effects(("submissions",), _SUBMISSION_TAGS, counters=_TIMES),
    "submission.deleted": Effects(("submissions",), _SUBMISSION_TAGS, hard=True, counters=_SUBMISSION),
    "submission.erased": Effects(("submissions",), _SUBMISSION_TAGS, hard=True),
    "setting.changed": Effects(("settings",), ("setting", "setting-{key}"), hard=True),
    "setting.removed": Effects(("settings",), ("setting", "setting-{key}"), hard=True),
}

# Types of the events that change a counter.
COUNTED: Final = tuple(name for name, row in EFFECTS.items() if row.counters)


_DATA_TAGS: Final = {
    name: [tag for tag in row.tags if "{" in tag and "{key}" not in tag] for name, row in EFFECTS.items()
}


def data_tags(event: RecordedEvent) -> list[str]:
    """The tags of an event besides its category and stream: those that name a field of its data."""
    found = []
    for tag in _DATA_TAGS.get(event.type, ()):
        with contextlib.suppress(KeyError):  # an event that cannot be read has no data
            found.append(tag.format_map(event.data))
    return found
