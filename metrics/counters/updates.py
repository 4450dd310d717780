"""Pushes the keys of changed counters to open pages: ephemeral frames `metrics.updated`, after the commit.

Topics are those of the records (``user:<id>``, ``form:<id>``), of their lists (``users``, ``forms``) and ``dashboard``.
Changes are collected, so that each topic gets at most one frame a second: the first change at once, later changes
within that second at the next tick. A frame has no values: a page reads them with the rights of its reader.

    keys      the records that changed; on a list empty for "any", on the dashboard the names of queries, and
              `records` where any record may have changed
    as_of     the position that the counters include now, and the time
    previous  the position of the topic's frame before, None for the first: a list that missed one reads all its rows
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from events import head
from events.db import pipeline
from events.types import RecordedEvent
from metrics.counters import applying, seed
from metrics.counters.applying import Changed
from realtime import publish

EVENT: Final = "metrics.updated"
KEY: Final = "figures"  # names the right on the dashboard
SECONDS: Final = 1.0  # between two frames of a topic
MAX_KEYS: Final = 200  # in a frame of a list; more are "any"
MAX_TOPICS: Final = 500  # frames a second; the others wait
MAX_WAITING: Final = 10_000  # topics; then changes of further records are not pushed to their own topics

LISTS: Final[Mapping[str, str]] = {"user": "users", "form": "forms"}
DASHBOARD: Final = "dashboard"
TOTALS: Final = ("totals", "form-stats")
ANY_RECORD: Final = "records"


class Updates:
    """The changes that are not pushed yet, of one process.

    Only the runner of the subscription ticks. Another process counts only when an operator replays a parked stream; it
    pushes at once, because no tick would push later.
    """

    def __init__(
        self,
        send: Callable[[Sequence[publish.Message]], bool] = publish.send_all,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._send, self._clock = send, clock
        self._waiting: dict[str, set[str]] = {}  # topic -> keys; in the order of the first change
        self._sent_at: dict[str, float] = {}  # topic -> when, within the last second
        self._previous: dict[str, int] = {}  # list or dashboard -> position of its last frame
        self._position = 0
        self._paused_until = 0.0
        self._ticks = False

    def add(self, changed: Changed, position: int) -> None:
        """Note the changes of a committed batch, and push those that are due."""
        self._position = max(self._position, position)
        for category, keys in (("user", changed.users), ("form", changed.forms)):
            if keys:
                self._note(LISTS[category], keys)
            for key in keys:
                self._note(f"{category}:{key}", (key,))
        if changed.users or changed.forms or changed.days:
            self._note(DASHBOARD, TOTALS)
        self._flush()

    def add_all(self, position: int) -> None:
        """Note that any record may have changed: the windows moved, or everything was counted again."""
        self._position = max(self._position, position)
        for topic in LISTS.values():
            self._waiting[topic] = set()
        self._note(DASHBOARD, (*TOTALS, ANY_RECORD))
        self._flush()

    def tick(self) -> None:
        """Push the waiting changes; called about once a second."""
        self._ticks = True
        self._flush()

    def _flush(self) -> None:
        """Push the topics whose last frame is a second ago; those that cannot be sent stay."""
        now = self._clock()
        if now < self._paused_until or not self._waiting:
            return
        self._sent_at = {topic: at for topic, at in self._sent_at.items() if self._ticks and now - at < SECONDS}
        due = [topic for topic in self._waiting if topic not in self._sent_at][: MAX_TOPICS - len(self._sent_at)]
        if not due:
            return
        if not self._send([self._frame(topic) for topic in due]):
            self._paused_until = now + SECONDS
            return
        for topic in due:
            del self._waiting[topic]
            self._sent_at[topic] = now
            if ":" not in topic:
                self._previous[topic] = self._position

    def _note(self, topic: str, keys: Iterable[str]) -> None:
        waiting = self._waiting.get(topic)
        if waiting is None:
            if len(self._waiting) < MAX_WAITING or ":" not in topic:
                self._waiting[topic] = set(keys)
        elif waiting:  # an empty set means any
            waiting.update(keys)
        if topic in self._waiting and ":" not in topic and len(self._waiting[topic]) > MAX_KEYS:
            self._waiting[topic] = set()

    def _frame(self, topic: str) -> publish.Value:
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        data: dict[str, Any] = {
            "keys": sorted(self._waiting[topic]),
            "as_of": {"position": self._position, "at": at},
            "previous": self._previous.get(topic),
        }
        return publish.value(topic, EVENT, data, key=KEY)


LOCAL: Final = Updates()


def handle(events: Sequence[RecordedEvent]) -> None:
    """The handler of the subscription: count, and push after the commit."""
    changed = applying.handle(events)
    pipeline.once_committed(LOCAL.add, changed, events[-1].position)


def start() -> None:
    """Seed the counters. Open pages read everything again."""
    seed.start()
    LOCAL.add_all(head.safe())


def tick(position: int) -> None:
    """Called about once a second by the active runner: move the windows, push the waiting changes."""
    if applying.is_due():
        applying.sweep()
        LOCAL.add_all(position)
    LOCAL.tick()
