"""Cached values: an entry with its stamp, and the memory of this process, bounded in bytes.

An entry holds bytes, not an object: its size is exact, and no reader can change a value that others share.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import KW_ONLY, dataclass
from typing import Final

from events import freshness
from metrics.caching import figures

# Bytes of an entry besides its value and its key: the object, its slots, its place in the dictionary.
OVERHEAD: Final = 400
# One hit in so many is loaded again and compared.
SAMPLE: Final = 1_000


@dataclass(slots=True, eq=False)
class Entry:
    """A value, encoded as JSON, with what decides whether it may be used.

    asof    a safe head that was read before the value; it reflects every event at or below
    epoch   the history of the log that `asof` belongs to
    slots   of the tags that the value depends on; `exact`: any of their events refuses it, else only hard ones
    begun   when this process began to load it, `NEVER` where another one did; `until`: its end; both monotonic
    at      when it was loaded, for display only
    seen    `Freshness.changes` at the last check that it passed
    """

    name: str
    value: bytes
    _: KW_ONLY
    asof: int
    epoch: str
    until: float
    stats: figures.QueryFigures
    slots: tuple[int, ...] = ()
    exact: bool = True
    begun: float = freshness.NEVER
    at: float = 0.0
    seen: int = -1

    @property
    def size(self) -> int:
        return len(self.value) + 2 * len(self.name) + 8 * len(self.slots) + OVERHEAD


class Memory:
    """The entries of this process: least recently used ones are evicted beyond `limit` bytes. For all threads."""

    def __init__(self, limit: int, known: freshness.Freshness = freshness.LOCAL) -> None:
        self.limit, self.bytes = limit, 0
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._lock = threading.Lock()
        self._known = known
        known.when_erased(self.clear)

    def get(self, key: str) -> Entry | None:
        """An entry that may be used now, without looking at its slots: nothing has changed since its last check."""
        entry = self._entries.get(key)
        known = self._known
        if entry is None or entry.seen != known.changes:
            return None
        now = time.monotonic()
        if now >= entry.until or now >= known.trusted_until:
            return None
        stats = entry.stats
        stats.hits += 1
        if not stats.hits & 7:  # the order of use is kept for one hit in eight, which costs less
            self._move_to_end(key)
        return entry

    def look(self, key: str) -> Entry | None:
        """The entry, whether or not it may be used."""
        return self._entries.get(key)

    def put(self, key: str, entry: Entry) -> None:
        """Keep an entry, unless an erasure came after it, or one as of a later position is here already."""
        size = entry.size
        if size > self.limit:
            return
        with self._lock:
            if entry.asof < max(self._known.erased_at, self._known.floor) or entry.epoch != self._known.epoch:
                return
            before = self._entries.get(key)
            if before is not None:
                if before.epoch == entry.epoch and before.asof > entry.asof:
                    return
                self.bytes -= before.size
            self._entries[key] = entry
            self._entries.move_to_end(key)
            self.bytes += size
            while self.bytes > self.limit:
                _, oldest = self._entries.popitem(last=False)
                self.bytes -= oldest.size
                oldest.stats.evictions += 1

    def clear(self) -> None:
        """Drop everything; called after each erasure, since values may contain the erased data."""
        with self._lock:
            self._entries = OrderedDict()
            self.bytes = 0

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Query -> its number of entries and their bytes."""
        found: dict[str, tuple[int, int]] = {}
        with self._lock:
            for entry in self._entries.values():
                number, size = found.get(entry.stats.query, (0, 0))
                found[entry.stats.query] = number + 1, size + entry.size
        return found

    def __len__(self) -> int:
        return len(self._entries)

    def _move_to_end(self, key: str) -> None:
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
