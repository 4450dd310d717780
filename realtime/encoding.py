"""Events encoded once per projection, and the ring of the newest ones."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from itertools import islice

import orjson

from events import types
from realtime import prometheus, ready_frames, sockets, topics

logger = logging.getLogger(__name__)


class EncodedEvent:
    """An event with its topic names and its encoded forms.

    A frame is `{"type":"event","topics":[…],"previous":N,` followed by the body: the JSON form of the event without its
    opening brace. Most sockets also share `previous`, so they share whole frames; only the last few are kept.
    """

    __slots__ = ("_bodies", "_frames", "event", "names", "position", "size")

    def __init__(self, event: types.RecordedEvent) -> None:
        self.event = event
        self.position = event.position
        self.names = topics.of_event(event)
        self.size = len(orjson.dumps(event.data)) + 1024
        self._bodies: dict[tuple[str, str], str | None] = {}
        self._frames: dict[
            tuple[int, str | tuple[str, ...], tuple[str, ...], bool], ready_frames.EncodedFrame | None
        ] = {}

    def frame_for(
        self, names: tuple[str, ...], socket: sockets.Socket, replayed: bool = False
    ) -> ready_frames.EncodedFrame | None:
        """The frame for a socket that follows `names`; None when its projection hides the event on all of them."""
        grants = socket.grants
        views = grants[names[0]].projection_key if len(names) == 1 else tuple(grants[n].projection_key for n in names)
        key = (socket.sent, views, names, replayed)
        if key not in self._frames:
            if len(self._frames) >= 8:
                self._frames.clear()
            self._frames[key] = self._encode(names, socket, replayed)
        return self._frames[key]

    def _encode(
        self, names: tuple[str, ...], socket: sockets.Socket, replayed: bool
    ) -> ready_frames.EncodedFrame | None:
        """Encode a frame without the names whose projection hides the event; the first other name decides the view."""
        shown: list[str] = []
        body: str | None = None
        for name in names:
            found = self._body(*socket.grants[name])
            if found is not None:
                shown.append(name)
                body = body or found
        if body is None:
            return None
        mark = '"replayed":true,' if replayed else ""
        listed = orjson.dumps(shown).decode()
        text = f'{{"type":"event","topics":{listed},"previous":{socket.sent},{mark}{body}'
        return ready_frames.EncodedFrame(self.position, text)

    def _body(self, topic: topics.Topic, projection_key: str) -> str | None:
        key = (topic.name, projection_key)
        if key not in self._bodies:
            self._bodies[key] = _body_of(self.event, topic, projection_key)
        return self._bodies[key]

    def drop_frames(self) -> None:
        """Free the frames; the bodies stay for sockets that catch up later."""
        self._frames.clear()


def _body_of(event: types.RecordedEvent, topic: topics.Topic, projection_key: str) -> str | None:
    """The encoded JSON form. A projection that fails hides its event, so that one bug does not stop all deliveries."""
    try:
        shown = topic.project(event, projection_key)
        if event.unreadable and shown is not None:
            shown = {**shown, "data": {}}
        return None if shown is None else orjson.dumps(shown).decode()[1:]
    except Exception:
        prometheus.PROJECTION_ERRORS.inc()
        logger.exception(
            "topic %s cannot show event %d (%s) as %r",
            topic.name,
            event.position,
            event.type,
            projection_key,
            extra={"stream": event.stream, "position": event.position},
        )
        return None


class Ring:
    """The newest events without a gap: all events in (`floor`, the hub's position]."""

    def __init__(self, events: int, size: int) -> None:
        self._events: deque[EncodedEvent] = deque()
        self._max_events, self._max_size, self._size = events, size, 0
        self.floor = 0

    def __len__(self) -> int:
        return len(self._events)

    def restart(self, position: int) -> None:
        """Empty the ring; the next event added follows `position`."""
        self._events.clear()
        self._size, self.floor = 0, position

    def add(self, event: EncodedEvent) -> None:
        """Append an event and drop the oldest ones beyond the bounds."""
        self._events.append(event)
        self._size += event.size
        while len(self._events) > self._max_events or self._size > self._max_size:
            oldest = self._events.popleft()
            self._size -= oldest.size
            self.floor = oldest.position

    def after(self, position: int) -> Iterator[EncodedEvent]:
        """The events above `position`, in order. Complete only when `position >= floor`."""
        low, high = 0, len(self._events)
        while low < high:  # most callers ask for positions near the ends, where a deque is fast
            middle = (low + high) // 2
            if self._events[middle].position <= position:
                low = middle + 1
            else:
                high = middle
        return islice(self._events, low, None)
