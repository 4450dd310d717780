"""The Prometheus metrics of the sockets of this process, exposed at `/metrics`."""

from __future__ import annotations

from collections import deque

from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.registry import Collector

__all__ = ["REGISTRY"]

# Figures of the whole installation, which layers above add; the other ones are those of one process.
COLLECTORS: dict[str, Collector] = {}

SOCKETS = Gauge("realtime_sockets", "Open sockets", multiprocess_mode="livesum")
BEHIND = Gauge("realtime_sockets_behind", "Sockets catching up or out of credit", multiprocess_mode="livesum")
POSITION = Gauge("realtime_position", "Position up to which this process has delivered", multiprocess_mode="livemax")
DEGRADED = Gauge(
    "realtime_degraded", "1 while the store is polled because the relay is silent", multiprocess_mode="livemax"
)
EVENTS = Counter("realtime_events_total", "Events that reached this process", ["source"])
DELIVERIES = Counter("realtime_deliveries_total", "Event frames handed to the server")
LAG = Histogram(
    "realtime_lag_seconds",
    "From the event's commit to its delivery, of events committed since the process began to follow the log",
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60),
)
FILLS = Counter("realtime_fills_total", "Reads of the store to close a gap", ["reason"])
CREDIT_WAITS = Counter("realtime_credit_waits_total", "Times a socket fell behind its reader")
DROPS = Counter("realtime_drops_total", "Values and presence not kept because a queue was full", ["queue"])
RESETS = Counter("realtime_resets_total", "Topics reset, which their clients reload", ["reason"])
CLOSES = Counter("realtime_closes_total", "Closed sockets", ["code"])
REFUSALS = Counter("realtime_refusals_total", "Handshakes refused", ["reason"])
BAD_FRAMES = Counter("realtime_bad_frames_total", "Frames of clients that were not understood", ["code"])
VALUES = Counter("realtime_values_total", "Ephemeral values, sent or replaced by a newer one", ["fate"])
REVOCATIONS = Counter("realtime_revocations_total", "Sockets closed or rechecked by an event", ["action"])
PROJECTION_ERRORS = Counter("realtime_projection_errors_total", "Events hidden because a projection failed")

_KNOWN_CODES = {1000, 1001, 1005, 1006, 1009, 1011, 1012, 1013, 4400, 4408, 4429, 4500, 4501, 4503, 4505}


class Recent:
    """The values of the last `seconds`, at most the newest `size`. `now` is any clock that only goes forward."""

    def __init__(self, seconds: float, size: int) -> None:
        self.seconds = seconds
        self._values: deque[tuple[float, float]] = deque(maxlen=size)

    def add(self, now: float, value: float) -> None:
        self._values.append((now, value))

    def values(self, now: float) -> list[float]:
        while self._values and self._values[0][0] < now - self.seconds:
            self._values.popleft()
        return [value for _, value in self._values]


def closed(code: int) -> None:
    """Count a close; unknown codes, which a client may invent, share one label."""
    CLOSES.labels(str(code) if code in _KNOWN_CODES else "other").inc()


def total(counter: Counter) -> int:
    """The value of a counter of this process, over all its labels."""
    return sum(by_label(counter).values())


def by_label(counter: Counter) -> dict[str, int]:
    """The value by label; a counter without labels has one entry."""
    samples = [sample for family in counter.collect() for sample in family.samples]
    counts = [sample for sample in samples if sample.name.endswith("_total")]
    return {" ".join(sample.labels.values()): int(sample.value) for sample in counts}
