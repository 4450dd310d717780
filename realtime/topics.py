"""Topics: the feeds that sockets may follow, their permissions, and the view of events that each principal gets.

A higher layer registers one `Topic` per feed in `AppConfig.ready()`. The event's category determines its topic names
(the list, and the record it is about); the principal determines the permission and the projection key. An event is
projected and encoded once per (event, projection key), never per socket.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

from events import types

# The person or program behind a socket, as `realtime.auth` found them; opaque to this layer.
Principal: TypeAlias = Any
Projection: TypeAlias = Callable[[types.RecordedEvent, str], types.JsonDict | None]


def _whole_event(event: types.RecordedEvent, _projection_key: str) -> types.JsonDict:
    return event.to_wire()


def _one_projection(_principal: Principal) -> str:
    return ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Topic:
    """One feed. All functions are pure and fast: they run on the event loop and must not query.

    name                  ``users``; carries every event of `categories`
    categories            its event categories; empty for a feed of ephemeral values only
    record_topic          ``user:{key}``: the feed of a single record; None when there is none
    may_subscribe         whether a principal may follow the list (and its records, unless the next is given)
    may_subscribe_record  whether a principal may follow the record with this key
    projection_key        principals with the same key get the same view; asked again when permissions change
    project               the JSON form of an event for a key, without hidden fields; None hides the event
    may_see_value         whether a principal may see the ephemeral value of this key; None: all followers may
    """

    name: str
    may_subscribe: Callable[[Principal], bool]
    categories: tuple[str, ...] = ()
    record_topic: str | None = None
    may_subscribe_record: Callable[[Principal, str], bool] | None = None
    projection_key: Callable[[Principal], str] = _one_projection
    project: Projection = _whole_event
    may_see_value: Callable[[Principal, str], bool] | None = None

    def record_name(self, key: str) -> str | None:
        return self.record_topic.format(key=key) if self.record_topic else None

    def allows(self, principal: Principal, key: str | None) -> bool:
        """True when the principal may follow the list (`key` None) or this record."""
        if key is not None and self.may_subscribe_record is not None:
            return self.may_subscribe_record(principal, key)
        return self.may_subscribe(principal)


_by_name: dict[str, Topic] = {}
_by_prefix: dict[str, Topic] = {}
_by_category: dict[str, tuple[Topic, ...]] = {}


def register(topic: Topic) -> Topic:
    """Add a feed. Raises `RuntimeError` for a name that is already registered."""
    if topic.name in _by_name:
        raise RuntimeError(f"topic {topic.name!r} is registered twice")
    if topic.record_topic is not None:
        prefix, marker, rest = topic.record_topic.partition("{key}")
        if not (marker and prefix.endswith(":") and not rest) or prefix in _by_prefix:
            raise RuntimeError(f"record topic {topic.record_topic!r} must read 'name:{{key}}' and be unique")
        _by_prefix[prefix] = topic
    _by_name[topic.name] = topic
    for category in topic.categories:
        _by_category[category] = (*_by_category.get(category, ()), topic)
    return topic


def unregister(name: str) -> None:
    """Remove a feed again, for tests that add their own."""
    topic = _by_name.pop(name)
    if topic.record_topic is not None:
        del _by_prefix[topic.record_topic.removesuffix("{key}")]
    for category in topic.categories:
        _by_category[category] = tuple(t for t in _by_category[category] if t is not topic)


def find(name: str) -> tuple[Topic, str | None] | None:
    """The feed of this name, and the key for a record's feed; None when there is no such feed."""
    if name in _by_name:
        return _by_name[name], None
    prefix, colon, key = name.partition(":")
    topic = _by_prefix.get(prefix + colon) if key else None
    return (topic, key) if topic else None


def of_event(event: types.RecordedEvent) -> list[tuple[str, Topic]]:
    """The topic names that carry this event, lists before records."""
    found: list[tuple[str, Topic]] = []
    for topic in _by_category.get(event.category, ()):
        found.append((topic.name, topic))
        if topic.record_topic is not None:
            found.append((topic.record_topic.format(key=event.key), topic))
    return found


def names() -> list[str]:
    """The names of all feeds, for the documentation: ``users``, ``user:{key}``, …"""
    found = []
    for topic in _by_name.values():
        found += [topic.name, topic.record_topic] if topic.record_topic else [topic.name]
    return sorted(found)
