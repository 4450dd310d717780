"""One event on its way out, encoded once per projection; and the ring of those that left recently."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from itertools import islice

import orjson

from events import types
from realtime import prometheus, sockets, topics

logger = logging.getLogger(__name__)


class Fan:
    """An event with the topic names it is on and its encoded forms.

    A frame is `{"type":"event","topics":[…],"previous":N,` followed by the body, which is the event's wire form without
    its opening brace. Most sockets share `previous` too, so whole packets are shared; only the last few are kept.
    """

    __slots__ = ("_bodies", "_packets", "event", "names", "position", "size")

    def __init__(self, event: types.RecordedEvent) -> None:
        self.event = event
        self.position = event.position
        self.names = topics.of_event(event)
        self.size = len(orjson.dumps(event.data)) + 1024
        self._bodies: dict[tuple[str, str], str | None] = {}
        self._packets: dict[tuple[int, str | tuple[str, ...], tuple[str, ...], bool], sockets.Packet | None] = {}

    def packet(self, names: tuple[str, ...], socket: sockets.Socket, replayed: bool = False) -> sockets.Packet | None:
        """The frame for a socket that follows `names`; None when its projection hides the event on all of them."""
        grants = socket.grants
        views = grants[names[0]].projection_key if len(names) == 1 else tuple(grants[n].projection_key for n in names)
        key = (socket.sent, views, names, replayed)
        if key not in self._packets:
            if len(self._packets) >= 8:
                self._packets.clear()
            self._packets[key] = self._encode(names, socket, replayed)
        return self._packets[key]

    def _encode(self, names: tuple[str, ...], socket: sockets.Socket, replayed: bool) -> sockets.Packet | None:
        """Names whose projection hides the event are left out; the first that shows it decides how."""
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
        return sockets.Packet(self.position, text)

    def _body(self, topic: topics.Topic, projection_key: str) -> str | None:
        key = (topic.name, projection_key)
        if key not in self._bodies:
            self._bodies[key] = _body_of(self.event, topic, projection_key)
        return self._bodies[key]

    def forget_packets(self) -> None:
        """Keep the bodies for those who catch up later, not the frames."""
        self._packets.clear()


def _body_of(event: types.RecordedEvent, topic: topics.Topic, projection_key: str) -> str | None:
    """The encoded wire form; a projection that fails hides its event rather than stopping everybody's."""
    try:
        shown = topic.project(event, projection_key)
        if event.unreadable and shown is not None:
            shown = {**shown, "data": {}}
        return None if shown is None else orjson.dumps(shown).decode()[1:]
    except Exception:
        prometheus.PROJECTION_ERRORS.inc()
        logger.exception(
            "topic %s cannot show event %d (%s) as %r", topic.name, event.position, event.type, projection_key
        )
        return None


class Ring:
    """The newest events without a hole: everything in (`floor`, the hub's position] is here."""

    def __init__(self, events: int, size: int) -> None:
        self._fans: deque[Fan] = deque()
        self._max_events, self._max_size, self._size = events, size, 0
        self.floor = 0

    def __len__(self) -> int:
        return len(self._fans)

    def restart(self, position: int) -> None:
        """Forget everything; what comes next follows `position`."""
        self._fans.clear()
        self._size, self.floor = 0, position

    def add(self, fan: Fan) -> None:
        self._fans.append(fan)
        self._size += fan.size
        while len(self._fans) > self._max_events or self._size > self._max_size:
            oldest = self._fans.popleft()
            self._size -= oldest.size
            self.floor = oldest.position

    def after(self, position: int) -> Iterator[Fan]:
        """The fans above `position` in order. Only complete when `position >= floor`."""
        low, high = 0, len(self._fans)
        while low < high:  # deque has no bisect; the ends are what is asked for most
            middle = (low + high) // 2
            if self._fans[middle].position <= position:
                low = middle + 1
            else:
                high = middle
        return islice(self._fans, low, None)
