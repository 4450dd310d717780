"""The tags of events that invalidate cached values, and the event that invalidates values by name.

    tag of an event   its category (`form`), its stream (`form-<id>`), and those of its data in `metrics.effects`
    hard              erasures, deletions, restorations (`events.freshness`), everything of staff and settings
    by name           `cache.invalidated`: values whose name matches its pattern

The invalidation is an event, so it reaches every process like any other, in order and without Valkey, and the log
records who requested it. A process that starts later never uses a value from before its start.
"""

from __future__ import annotations

from typing import Final

from events import freshness, store, types
from events.types import Event, RecordedEvent, event_type
from metrics import effects

STREAM: Final = types.stream_name("cache", "values")
MAX_PATTERN: Final = 200


@event_type("cache.invalidated")
class CacheInvalidated(Event, frozen=True):
    """Cached values whose names match are not used any more, in any process."""

    pattern: str


def register() -> None:
    """Register the tags, hard categories and patterns of this product; called once from `ready()`."""
    freshness.taggers.update(dict.fromkeys({name.partition(".")[0] for name in effects.EFFECTS}, effects.data_tags))
    freshness.hard_categories.update(("staff", "setting"))
    freshness.patterns_of["cache.invalidated"] = _pattern


def _pattern(event: RecordedEvent) -> str:
    return str(event.data.get("pattern", "*"))


def invalidate(pattern: str) -> int:
    """Invalidate the values whose names match, in every process; returns the position of the invalidation.

    `*` stands for any text. Raises `ValueError` for an empty or a very long pattern.
    """
    if not pattern.strip() or len(pattern) > MAX_PATTERN:
        raise ValueError(f"A pattern has 1 to {MAX_PATTERN} characters.")
    return store.append(STREAM, [CacheInvalidated(pattern=pattern)]).position
