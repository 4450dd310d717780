"""Sends an event to the sockets that follow its topics live."""

from __future__ import annotations

from collections.abc import Callable

from realtime import encoding, prometheus, sockets, topic_index


class Delivery:
    """Sends events by a topic index. `fall_behind` is called with a socket that takes no more frames now."""

    def __init__(self, index: topic_index.TopicIndex, fall_behind: Callable[[sockets.Socket], None]) -> None:
        self._index, self._fall_behind = index, fall_behind

    def deliver(self, event: encoding.EncodedEvent) -> None:
        """Send the event once to every socket that follows one of its topics live."""
        live = self._index.live
        followed = [name for name, _topic in event.names if name in live]
        if not followed:
            return
        if len(followed) == 1:
            self._deliver_on_one_topic(event, followed[0])
        else:
            matched: dict[sockets.Socket, tuple[str, ...]] = {}
            for name in followed:
                for socket in live[name]:
                    matched[socket] = (*matched.get(socket, ()), name)
            # counted first: a client may have its frame, and read the counter, before the last frame is sent
            prometheus.DELIVERIES.inc(len(matched))
            for socket, names in matched.items():
                frame = event.frame_for(names, socket)
                if frame is not None and not socket.send_event(frame):
                    self._fall_behind(socket)
        event.drop_frames()

    def _deliver_on_one_topic(self, event: encoding.EncodedEvent, name: str) -> None:
        """Send an event that is followed on one topic only: the common case, in the hub's innermost loop."""
        names, targets = (name,), list(self._index.live[name])
        prometheus.DELIVERIES.inc(len(targets))
        sent, view, frame = -1, "", None
        for socket in targets:
            if socket.sent != sent or socket.grants[name].projection_key != view:
                sent, view = socket.sent, socket.grants[name].projection_key
                frame = event.frame_for(names, socket)
            if frame is not None and not socket.send_event(frame):
                self._fall_behind(socket)
