"""Values of the moment: the latest wins, sent by time and in batches of ten, never at the price of an event."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from realtime import conf, frames, prometheus, publish, sockets

# Different values one slow or hidden socket may have waiting.
MAX_WAITING = 200


class Values:
    """Collects values per (topic, key) and hands them to the sockets on the topic when it is time."""

    def __init__(self, limits: conf.Limits, members: Callable[[str], Iterable[sockets.Socket]]) -> None:
        self._limits, self._members = limits, members
        self._collected: dict[str, dict[str, publish.Value]] = {}
        self._waiting: dict[sockets.Socket, float] = {}

    def put(self, value: publish.Value) -> None:
        """Keep the newest per key; ten different ones are sent without waiting for the clock."""
        collected = self._collected.setdefault(value.topic, {})
        if collected.pop(value.key, None) is not None:
            prometheus.VALUES.labels("replaced").inc()
        collected[value.key] = value
        if len(collected) >= self._limits.ephemeral_batch:
            self._flush(value.topic)

    def tick(self, now: float) -> None:
        """Send what was collected, and what waited for a reader that has room again."""
        for topic in list(self._collected):
            self._flush(topic)
        for socket, due in list(self._waiting.items()):
            if not socket.open or not socket.values:
                del self._waiting[socket]
            elif now >= due and self._ready(socket):
                del self._waiting[socket]
                waiting, socket.values = list(socket.values.values()), {}
                still = [value for value in waiting if _may_see(socket, value)]
                self._send(socket, encode(still, self._limits.ephemeral_batch))

    def show_now(self, socket: sockets.Socket) -> None:
        """The page is visible again: what waited is due at the next tick."""
        if socket in self._waiting:
            self._waiting[socket] = 0.0

    def _flush(self, topic: str) -> None:
        values = list(self._collected.pop(topic).values())
        texts = encode(values, self._limits.ephemeral_batch)
        excluded = {value.exclude for value in values if value.exclude}
        for socket in list(self._members(topic)):
            mine = values
            if socket.id in excluded or socket.grants[topic].topic.may_see_value is not None:
                mine = [value for value in values if value.exclude != socket.id and _may_see(socket, value)]
                mine = values if len(mine) == len(values) else mine
            if socket.hidden or not self._ready(socket):
                self._keep(socket, mine)
            else:
                self._send(socket, texts if mine is values else encode(mine, self._limits.ephemeral_batch))

    def _ready(self, socket: sockets.Socket) -> bool:
        return socket.room and socket.unanswered < self._limits.ephemeral_bytes

    def _keep(self, socket: sockets.Socket, values: list[publish.Value]) -> None:
        for value in values:
            key = (value.topic, value.key)
            if key in socket.values or len(socket.values) < MAX_WAITING:
                socket.values[key] = value
            else:
                prometheus.DROPS.labels("values").inc()
        self._waiting.setdefault(socket, socket.now() + (self._limits.ephemeral_hidden if socket.hidden else 0.0))

    def _send(self, socket: sockets.Socket, texts: list[str]) -> None:
        for text in texts:
            socket.unanswered += len(text)
            socket.tell_text(text)
        prometheus.VALUES.labels("sent").inc(len(texts))


def _may_see(socket: sockets.Socket, value: publish.Value) -> bool:
    """Does the socket follow the value's topic, and may it see this one? Both may have changed while it waited."""
    grant = socket.grants.get(value.topic)
    if grant is None:
        return False
    may_see = grant.topic.may_see_value
    return may_see is None or may_see(socket.identity.principal, value.key)


def encode(values: Iterable[publish.Value], batch: int) -> list[str]:
    """Frames of at most `batch` values of one topic each; a value alone travels under its own name."""
    by_topic: dict[str, list[publish.Value]] = {}
    for value in values:
        by_topic.setdefault(value.topic, []).append(value)
    return [
        frames.encode(_frame(topic, part)) for topic, some in by_topic.items() for part in _chunks(iter(some), batch)
    ]


def _chunks(values: Iterator[publish.Value], size: int) -> Iterator[list[publish.Value]]:
    while part := list(islice(values, size)):
        yield part


def _frame(topic: str, values: list[publish.Value]) -> frames.Ephemeral:
    newest = values[-1]
    if len(values) == 1:
        return frames.Ephemeral(topic=topic, event=newest.event, data=newest.data, timestamp=newest.timestamp)
    updates = [{"event": v.event, "key": v.key, "data": v.data, "timestamp": v.timestamp} for v in values]
    return frames.Ephemeral(
        topic=topic, event=f"{topic}.batch.update", data={"updates": updates}, timestamp=newest.timestamp
    )
