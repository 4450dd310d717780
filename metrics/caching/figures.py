"""The numbers of the cache in this process, by query, and the same numbers for Prometheus."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from prometheus_client import Counter, Gauge

READS: Final = Counter("cache_reads_total", "Reads of cached queries", ["query", "level"])
WAITS: Final = Counter("cache_waits_total", "Reads that waited for the load of another one", ["query"])
EVICTIONS: Final = Counter("cache_evictions_total", "Entries evicted from memory", ["query"])
DIFFERENCES: Final = Counter("cache_differences_total", "Hits that differed from a load", ["query"])
BYTES: Final = Gauge("cache_bytes", "Memory of cached values", multiprocess_mode="livesum")
CONNECTED: Final = Gauge("cache_connected", "1 while this process may use cached values", multiprocess_mode="livemin")

LEVELS: Final = {"hits": "memory", "shared": "valkey", "loads": "load"}


class QueryFigures:
    """The counts of one query in this process since it started.

    hits        answered from memory, by entries that were dropped since (`entries.Entry.hits`)
    shared      answered from Valkey
    misses      answered by neither
    loads       loaded from the database
    waits       waited for a load of another request or process
    evictions   dropped because memory was full
    compared    hits that were loaded again and compared; `differences`: those that differed
    """

    __slots__ = (
        "_flushed",
        "compared",
        "differences",
        "evictions",
        "hits",
        "loads",
        "misses",
        "query",
        "shared",
        "waits",
    )

    NAMES = ("hits", "shared", "misses", "loads", "waits", "evictions", "compared", "differences")

    def __init__(self, query: str) -> None:
        self.query = query
        self.hits = self.shared = self.misses = self.loads = self.waits = 0
        self.evictions = self.compared = self.differences = 0
        self._flushed = dict.fromkeys(self.NAMES, 0)

    def counts(self, live_hits: int = 0) -> dict[str, int]:
        """All counts by name; `live_hits` are those that entries in memory have counted."""
        return {name: getattr(self, name) for name in self.NAMES} | {"hits": self.hits + live_hits}

    def flush(self, live_hits: int) -> None:
        """Add the counts since the last call to the counters of Prometheus: each of their calls takes a lock."""
        for name, count in self.counts(live_hits).items():
            more, self._flushed[name] = count - self._flushed[name], count
            if more <= 0:
                continue
            if name in LEVELS:
                READS.labels(self.query, LEVELS[name]).inc(more)
            elif name == "waits":
                WAITS.labels(self.query).inc(more)
            elif name == "evictions":
                EVICTIONS.labels(self.query).inc(more)
            elif name == "differences":
                DIFFERENCES.labels(self.query).inc(more)


class QueryReport(msgspec.Struct, frozen=True, kw_only=True):
    """One query in one process; the counts are those of `QueryFigures`."""

    query: str
    hits: int = 0
    shared: int = 0
    misses: int = 0
    loads: int = 0
    waits: int = 0
    evictions: int = 0
    compared: int = 0
    differences: int = 0
    entries: int = 0
    bytes: int = 0


class CacheReport(msgspec.Struct, frozen=True, kw_only=True):
    """The cache of one process: its state, its memory and its queries.

    `connected`: it may use cached values; `position`: up to where it knows the log.
    `valkey`: `ok`, `open` (a call failed; the next attempt is a second later) or `unused` (no call yet).
    """

    connected: bool
    position: int
    floor: int
    valkey: str
    bytes: int
    limit: int
    queries: list[QueryReport]


def added(reports: list[QueryReport]) -> QueryReport:
    """The sum of the reports of one query from several processes."""
    names = [name for name in QueryReport.__struct_fields__ if name != "query"]
    sums: dict[str, Any] = {name: sum(getattr(one, name) for one in reports) for name in names}
    return QueryReport(query=reports[0].query, **sums)
