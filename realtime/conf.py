"""All limits and intervals of this package. `settings.REALTIME = {"heartbeat_ms": 15_000, …}` overrides them."""

from __future__ import annotations

from typing import Any

import msgspec
from django.conf import settings

from realtime import frames


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits and intervals, in seconds unless the name has another unit."""

    # credit: frames in transit to one socket before its client must acknowledge
    window_frames: int = 512
    window_bytes: int = 256 * 1024
    ack_frames: int = 64
    ack_bytes: int = 64 * 1024
    slow_after: float = 10.0

    # memory of the hub, and the distance from which a client may resume
    ring_events: int = 4096
    ring_bytes: int = 16 * 1024 * 1024
    catch_up_events: int = 5000  # further behind the head, or after more events read: reset
    page: int = 500
    catch_up_readers: int = 4

    # limits on a client's frames
    frame_bytes: int = 64 * 1024
    frames_per_second: float = 20.0
    frames_burst: float = 60.0
    topics: int = 200
    presence_topics: int = 100  # per connection, which all tabs of a browser share

    # connections
    connections: int = 4000
    connections_per_person: int = 20
    connections_per_address: int = 200
    handshakes_per_minute: float = 240.0
    handshakes_at_once: int = 64
    recheck_every: float = 300.0
    look_every: float = 0.5  # between two checks of the rows behind all sockets

    # heartbeat
    heartbeat_ms: int = 20_000
    tick: float = 0.25
    beacon_silence: float = 3.0
    poll: float = 0.25

    # presence and ephemeral values
    presence_lease: float = 15.0
    presence_renew: float = 5.0
    presence_grace: float = 8.0
    ephemeral_flush: float = 0.25
    ephemeral_hidden: float = 30.0  # between two batches for a hidden page
    ephemeral_batch: int = 10
    ephemeral_bytes: int = 64 * 1024

    # draining
    drain_share: float = 0.05
    drain_pause: float = 0.25
    retry_min_ms: int = 500
    retry_max_ms: int = 20_000

    def for_clients(self) -> frames.ClientLimits:
        """The limits that clients must know, for the first frame of a connection."""
        return frames.ClientLimits(
            frame_bytes=self.frame_bytes,
            frames_per_second=self.frames_per_second,
            topics=self.topics,
            credit=frames.Credit(self.window_frames, self.window_bytes, self.ack_frames, self.ack_bytes),
            retry_min_ms=self.retry_min_ms,
            retry_max_ms=self.retry_max_ms,
        )


def limits() -> Limits:
    """The limits in force. Raises `msgspec.ValidationError` for an unknown name in the setting."""
    given: dict[str, Any] = getattr(settings, "REALTIME", {})
    return msgspec.convert(given, Limits)
