"""Cached values: an entry with its stamp, and the memory of this process, bounded in bytes.

An entry holds bytes, not an object: its size is exact, and no reader can change a value that others share.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Final, NamedTuple

from events import freshness
from metrics.caching import figures

# Bytes of an entry besides its value and its key: the objects of its fields, its place in the dictionary.
OVERHEAD: Final = 560
# One hit in so many is loaded again and compared.
SAMPLE: Final = 1_000


class Size(NamedTuple):
    """The number, bytes and hits of the entries of one query in memory."""

    entries: int
    bytes: int
    hits: int


@dataclass(slots=True, eq=False)
class Entry:
    """A value, encoded as JSON, with the facts that decide whether it may be used.

    asof    a safe head that was read before the value; the value reflects every event up to it
    epoch   the history of the log that `asof` belongs to
    slots   of the tags that the value depends on; `exact`: any of their events invalidates it, else only hard ones
    begun   when this process began to load it from the primary, else `NEVER`; `until`: when it expires; monotonic time
    fresh_until   from then until it expires it is used while it is loaded again
    at      when it was loaded, for display only
    seen    `Freshness.changes` at the last check that it passed
    hits    times it was used; `hits_looked_at`: of those, before memory last decided about it
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
    hits: int = 0
    hits_looked_at: int = 0
    fresh_until: float = float("inf")

    def __post_init__(self) -> None:
        self.fresh_until = min(self.fresh_until, self.until)

    @property
    def size(self) -> int:
        return len(self.value) + 2 * len(self.name) + 8 * len(self.slots) + OVERHEAD


class Memory:
    """The entries of this process, at most `limit` bytes; those unused for longest are evicted. Thread-safe.

    A hit only increments a count. Eviction goes through the entries in order: one with hits since it was last looked at
    goes to the end once more, the first without is dropped.
    """

    def __init__(self, limit: int, known: freshness.Freshness = freshness.LOCAL) -> None:
        self.limit, self.bytes = limit, 0
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._lock = threading.Lock()
        self._known = known
        self.get = _quick_get(self._entries, known)
        known.when_erased(self.clear)

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
                self._drop(key)
            self._entries[key] = entry
            self.bytes += size
            while self.bytes > self.limit:
                self._evict()

    def clear(self) -> None:
        """Drop everything; called after each erasure, since values may contain the erased data."""
        with self._lock:
            for key in list(self._entries):
                self._drop(key)

    def sizes(self) -> dict[str, Size]:
        """Maps each query to its number of entries, their bytes and their hits."""
        found: dict[str, Size] = {}
        with self._lock:
            for entry in self._entries.values():
                before = found.get(entry.stats.query, Size(0, 0, 0))
                found[entry.stats.query] = Size(before.entries + 1, before.bytes + entry.size, before.hits + entry.hits)
        return found

    def __len__(self) -> int:
        return len(self._entries)

    def _evict(self) -> None:
        """Drop the first entry that was not hit since it was last looked at."""
        key, entry = next(iter(self._entries.items()))
        if entry.hits > entry.hits_looked_at:
            entry.hits_looked_at = entry.hits
            self._entries.move_to_end(key)
        else:
            entry.stats.evictions += 1
            self._drop(key)

    def _drop(self, key: str) -> None:
        entry = self._entries.pop(key)
        self.bytes -= entry.size
        entry.stats.hits += entry.hits


def _quick_get(
    entries: Mapping[str, Entry], known: freshness.Freshness, now: Callable[[], float] = time.monotonic
) -> Callable[[str], Entry | None]:
    """`Memory.get`: a fresh entry, without looking at its slots: nothing has changed since its last check.

    A closure, because this is the path of nearly every read and attribute look-ups are a third of it.
    """
    find = entries.get

    def get(key: str) -> Entry | None:
        entry = find(key)
        if entry is None or entry.seen != known.changes or not entry.fresh_until > now() < known.trusted_until:
            return None
        entry.hits += 1
        return entry

    return get
