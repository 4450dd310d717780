"""The effects of one request as a tree: the request, its commands, their events, and the events those caused."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from backoffice.web import actors, timeline
from backoffice.web.actors import Actor
from events import errors, search
from events.db import timeouts
from events.types import RecordedEvent

STATEMENT_TIMEOUT: Final = 3.0
NEAR: Final = 5_000  # positions before and after the event to search when the index takes too long


@dataclass(frozen=True, slots=True)
class Node:
    """An event, or a command (`event` None, `cause` its id), with the nodes it caused, in order."""

    cause: UUID | None
    event: RecordedEvent | None = None
    verb: Any = ""
    icon: str = ""
    here: bool = False
    children: list[Node] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Tree:
    """`more`: further events exist; `nearby`: only events around this one were searched."""

    roots: Sequence[Node]
    count: int
    more: bool
    nearby: bool
    actors: Sequence[Actor]


def tree(event: RecordedEvent, *, upto: int, limit: int) -> Tree | None:
    """Returns the tree of this event's request; None if the event has no request."""
    if event.correlation_id is None:
        return None
    events, nearby = _together(event, event.correlation_id, upto, limit + 1)
    more, kept = len(events) > limit, events[:limit]
    if event.position not in {one.position for one in kept}:
        kept = [*kept[:-1], event]
    return Tree(_nested(kept, event.position), len(kept), more, nearby, actors.authors(kept))


def _together(event: RecordedEvent, correlation: UUID, upto: int, limit: int) -> tuple[list[RecordedEvent], bool]:
    try:
        with timeouts.at_most(STATEMENT_TIMEOUT):
            return search.events_of_request(correlation, upto=upto, limit=limit), False
    except errors.TookTooLong:
        low, high = event.position - NEAR, min(event.position + NEAR, upto)
        return search.events_of_request(correlation, after=low, upto=high, limit=limit), True


def _nested(events: Iterable[RecordedEvent], here: int) -> list[Node]:
    """Places each event below the earlier event that caused it, else below its command."""
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
