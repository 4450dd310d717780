"""Ephemeral values: the latest per key wins; they are sent in batches, and never delay an event."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from realtime import conf, frames, prometheus, publish, sockets

# Pending values of one slow or hidden socket.
MAX_PENDING = 200


class EphemeralValues:
    """Collects values per (topic, key) and sends them to the topic's sockets at the next tick."""

    def __init__(self, limits: conf.Limits, followers: Callable[[str], Iterable[sockets.Socket]]) -> None:
        self._limits, self._followers = limits, followers
        self._collected: dict[str, dict[str, publish.Value]] = {}
        self._due_at: dict[sockets.Socket, float] = {}

    def put(self, value: publish.Value) -> None:
        """Keep the newest value per key; a full batch is sent without waiting for the tick."""
        collected = self._collected.setdefault(value.topic, {})
        if collected.pop(value.key, None) is not None:
            prometheus.VALUES.labels("replaced").inc()
        collected[value.key] = value
        if len(collected) >= self._limits.ephemeral_batch:
            self._flush(value.topic)

    def tick(self, now: float) -> None:
        """Send the collected values, and the pending ones of sockets that can take them again."""
        for topic in list(self._collected):
            self._flush(topic)
        for socket, due in list(self._due_at.items()):
            if not socket.open or not socket.pending_values:
                del self._due_at[socket]
            elif now >= due and self._ready(socket):
                del self._due_at[socket]
                pending, socket.pending_values = list(socket.pending_values.values()), {}
                allowed = [value for value in pending if _may_see(socket, value)]
                self._send(socket, encode(allowed, self._limits.ephemeral_batch))

    def page_shown(self, socket: sockets.Socket) -> None:
        """Send the pending values at the next tick, because the page is visible again."""
        if socket in self._due_at:
            self._due_at[socket] = 0.0

    def _flush(self, topic: str) -> None:
        values = list(self._collected.pop(topic).values())
        texts = encode(values, self._limits.ephemeral_batch)
        excluded = {value.exclude for value in values if value.exclude}
        for socket in list(self._followers(topic)):
            visible = values
            if socket.id in excluded or socket.grants[topic].topic.may_see_value is not None:
                visible = [value for value in values if value.exclude != socket.id and _may_see(socket, value)]
                visible = values if len(visible) == len(values) else visible
            if socket.hidden or not self._ready(socket):
                self._keep(socket, visible)
            else:
                self._send(socket, texts if visible is values else encode(visible, self._limits.ephemeral_batch))

    def _ready(self, socket: sockets.Socket) -> bool:
        return socket.can_send and socket.unanswered_bytes < self._limits.ephemeral_bytes

    def _keep(self, socket: sockets.Socket, values: list[publish.Value]) -> None:
        for value in values:
            key = (value.topic, value.key)
            if key in socket.pending_values or len(socket.pending_values) < MAX_PENDING:
                socket.pending_values[key] = value
            else:
                prometheus.DROPS.labels("values").inc()
        self._due_at.setdefault(socket, socket.now() + (self._limits.ephemeral_hidden if socket.hidden else 0.0))

    def _send(self, socket: sockets.Socket, texts: list[str]) -> None:
        for text in texts:
            socket.unanswered_bytes += len(text)
            socket.send_text(text)
        prometheus.VALUES.labels("sent").inc(len(texts))


def _may_see(socket: sockets.Socket, value: publish.Value) -> bool:
    """True when the socket still follows the topic and may see the value; both may have changed meanwhile."""
    grant = socket.grants.get(value.topic)
    if grant is None:
        return False
    may_see = grant.topic.may_see_value
    return may_see is None or may_see(socket.identity.principal, value.key)


def encode(values: Iterable[publish.Value], batch: int) -> list[str]:
    """Encode frames of at most `batch` values of one topic each; a single value keeps its own event name."""
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
