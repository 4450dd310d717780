"""A record's history as entries: actor, time, reason and changes, as this person may see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from django.utils.translation import gettext_lazy as _

from backoffice.web import actors, diffs
from events import aggregate, errors, snapshots, store, types
from events.types import RecordedEvent

PAGE: Final = 30
TOGETHER_CAP: Final = 50

# The verb and icon for each type of event.
VERBS: Final = {
    "created": (_("created"), "plus"),
    "received": (_("received"), "plus"),
    "corrected": (_("corrected"), "edit"),
    "updated": (_("changed"), "edit"),
    "changed": (_("set"), "edit"),
    "deleted": (_("deleted"), "trash"),
    "removed": (_("removed"), "trash"),
    "restored": (_("restored"), "restore"),
    "erased": (_("erased permanently"), "erase"),
    "exported": (_("exported personal data"), "download"),
    "role_changed": (_("changed the role"), "staff"),
    "password_changed": (_("set a new password"), "key"),
    "deactivated": (_("deactivated"), "close"),
    "reactivated": (_("reactivated"), "restore"),
    "logged_out": (_("signed out"), "logout"),
    "session_revoked": (_("ended sessions"), "logout"),
    "replayed": (_("replayed"), "play"),
    "skipped": (_("skipped"), "skip"),
    "rewound": (_("rewound"), "restore"),
    "requested": (_("requested"), "rebuild"),
    "cancelled": (_("stopped"), "close"),
    "finished": (_("finished"), "check"),
    "invalidated": (_("invalidated"), "cache"),
    "key_created": (_("created an API key"), "key"),
    "key_revoked": (_("revoked an API key"), "key"),
    "raised": (_("raised"), "alert"),
    "worsened": (_("worsened"), "up"),
    "eased": (_("eased"), "down"),
    "resolved": (_("resolved"), "check"),
    "reason_changed": (_("changed the cause"), "info"),
    "flapping": (_("reported flapping"), "alert"),
    "acknowledged": (_("acknowledged"), "check"),
    "unacknowledged": (_("ended the acknowledgement"), "restore"),
    "escalated": (_("escalated"), "up"),
    "commented": (_("commented"), "edit"),
    "closed": (_("closed"), "close"),
}

TOGETHER = """
select wanted.id, (select count(*) from (
           select 1 from events_event where correlation_id = wanted.id limit %s) few)
  from unnest(%s::uuid[]) as wanted(id)
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One version.

    `concealed`: a change that this person may not see. `erased`: a change that cannot be read any more.
    `together`: the number of events of the same request (capped).
    """

    event: RecordedEvent
    actor: actors.Actor
    verb: Any
    icon: str
    lines: Sequence[diffs.DiffRow]
    concealed: bool
    erased: bool
    together: int = 1

    @property
    def version(self) -> int:
        return self.event.version

    @property
    def version_before(self) -> int:
        return self.version - 1

    @property
    def version_after(self) -> int:
        return self.version + 1

    @property
    def together_many(self) -> bool:
        return self.together >= TOGETHER_CAP

    @property
    def together_others(self) -> int:
        return self.together - 1


def latest(stream: str, staff: Any, limit: int) -> list[Entry]:
    """Returns the newest versions, newest first; none if they are in an archive file that is missing.

    The record's page still shows the current state, and its history shows the message.
    """
    try:
        return entries(stream, store.version_of(stream), staff, limit)
    except errors.Archived:
        return []


def entries(stream: str, upto: int, staff: Any, limit: int = PAGE) -> list[Entry]:
    """Returns versions up to `upto`, newest first. Each is compared with the state right before it."""
    after = max(0, upto - limit)
    events = store.read_stream(stream, after, upto=upto)
    category = types.category_of(stream)
    record = aggregate.of_category(category)
    state = snapshots.folded(stream, after).state if after else record.initial()
    together = _together([event.correlation_id for event in events])
    found = []
    for event in events:
        before = state
        if event.unreadable:
            found.append(entry(event, [], together.get(event.correlation_id, 1)))
            continue
        state = record.evolve(state, event.event)
        lines = _lines(category, event, record.dump(before), record.dump(state), staff)
        found.append(entry(event, lines, together.get(event.correlation_id, 1)))
    return found[::-1]


def entry(event: RecordedEvent, lines: Sequence[diffs.DiffRow], together: int = 1) -> Entry:
    verb, icon = verb_of(event.type)
    changing = event.type.endswith((".updated", ".changed")) and not event.unreadable
    erased = _is_erased(event)
    return Entry(
        event=event,
        actor=actors.author(event),
        verb=verb,
        icon=icon,
        lines=lines,
        concealed=changing and not lines and not erased,
        erased=changing and not lines and erased,
        together=together,
    )


def _is_erased(event: RecordedEvent) -> bool:
    """Returns whether the event contains the placeholders of erased values that its type defines."""
    try:
        personal = types.event_type_of(event.type).personal
    except errors.UnknownEventType:
        return False
    return any(name in event.data and event.data[name] == marker for name, marker in personal.items())


def verb_of(event_type: str) -> tuple[Any, str]:
    """Returns the verb and the icon of an event type."""
    word = event_type.partition(".")[2]
    return VERBS.get(word, (word.replace("_", " "), "events"))


def _lines(
    category: str, event: RecordedEvent, before: dict[str, Any], after: dict[str, Any], staff: Any
) -> list[diffs.DiffRow]:
    if event.version == 1:
        return diffs.initial_rows(category, after, staff)
    if event.type.endswith((".deleted", ".restored", ".removed", ".erased")):
        return []
    return diffs.rows(category, before, after, staff)


def _together(ids: Sequence[UUID | None]) -> dict[UUID | None, int]:
    wanted = list({key for key in ids if key})
    return dict(store.query(TOGETHER, (TOGETHER_CAP, wanted))) if wanted else {}
