"""What one request caused, as a tree: the request, its commands, the events of each, and what those caused in turn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from backoffice.web import actors as people
from backoffice.web import timeline
from events import errors, search
from events.db import timeouts
from events.types import RecordedEvent

PATIENCE: Final = 3.0
NEAR: Final = 5_000  # positions on either side that are looked at when the index takes too long


@dataclass(frozen=True, slots=True)
class Node:
    """An event, or a command (`event` None, `cause` its id), with what followed from it, in order."""

    cause: UUID | None
    event: RecordedEvent | None = None
    verb: Any = ""
    icon: str = ""
    here: bool = False
    children: list[Node] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Tree:
    """`more`: there are further events; `nearby`: only those around this one were looked at."""

    roots: Sequence[Node]
    count: int
    more: bool
    nearby: bool
    actors: Sequence[people.Actor]


def tree(event: RecordedEvent, *, upto: int, limit: int) -> Tree | None:
    """What the request of this event caused; None for an event that no request is known of."""
    if event.correlation_id is None:
        return None
    events, nearby = _together(event, event.correlation_id, upto, limit + 1)
    more, kept = len(events) > limit, events[:limit]
    if event.position not in {one.position for one in kept}:
        kept = [*kept[:-1], event]
    return Tree(_nested(kept, event.position), len(kept), more, nearby, people.authors(kept))


def _together(event: RecordedEvent, correlation: UUID, upto: int, limit: int) -> tuple[list[RecordedEvent], bool]:
    try:
        with timeouts.at_most(PATIENCE):
            return search.events_of_request(correlation, upto=upto, limit=limit), False
    except errors.TookTooLong:
        low, high = event.position - NEAR, min(event.position + NEAR, upto)
        return search.events_of_request(correlation, after=low, upto=high, limit=limit), True


def _nested(events: Iterable[RecordedEvent], here: int) -> list[Node]:
    """An event hangs below the earlier event that caused it, else below its command."""
    nodes = {event.event_id: _node(event, here) for event in events}
    commands: dict[UUID | None, Node] = {}
    for node in nodes.values():
        above = nodes.get(node.cause) if node.cause else None
        if above is None or above.event is None or node.event is None or above.event.position >= node.event.position:
            above = commands.setdefault(node.cause, Node(cause=node.cause))
        above.children.append(node)
    return list(commands.values())


def _node(event: RecordedEvent, here: int) -> Node:
    verb, icon = timeline.verb_of(event.type)
    return Node(cause=event.causation_id, event=event, verb=verb, icon=icon, here=event.position == here)
