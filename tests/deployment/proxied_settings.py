"""The settings of two web processes behind the proxies of `deploy/`: short pauses, and all sockets of one person."""

from tests.live_settings import *  # noqa: F403

REALTIME = {
    "drain_pause": 0.05,
    "retry_min_ms": 50,
    "retry_max_ms": 500,
    "connections_per_person": 200,
    "handshakes_per_minute": 60_000.0,
}
