"""Two URLs from the environment, for when this system cannot notify by itself.

`heartbeat` is called after each tick: an outside service notices when it stops. `watch_database` is called by the
sampler: without PostgreSQL there are no delivery rows, so after `SILENT` seconds each sampler sends a
short message to ALERT_FALLBACK_URL, and another when the database is back. Several samplers send one each.
"""

from __future__ import annotations

import http.client
import logging
import socket
import time
from collections.abc import Callable
from typing import Final

import msgspec
from django.conf import settings

from metrics.monitoring.notify.channels import guard

log = logging.getLogger(__name__)

SILENT: Final = 15.0
HEARTBEAT_SECONDS: Final = 3.0
FAILURES: Final = (guard.Refused, guard.Unreachable, OSError, http.client.HTTPException)


def heartbeat(_slot: int) -> bool:
    """Fetch ALERT_HEARTBEAT_URL, if there is one; returns whether it answered with success."""
    if not settings.ALERT_HEARTBEAT_URL:
        return False
    return _call("GET", settings.ALERT_HEARTBEAT_URL, b"", HEARTBEAT_SECONDS)


class DatabaseWatch:
    """Measures how long the database has failed for this process, by its monotonic clock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: float | None = None
        self._reported = False

    def failed(self) -> bool:
        """Note a failure; returns whether a message was sent now. Each call tries again until it arrives."""
        now = self._clock()
        self._since = now if self._since is None else self._since
        if self._reported or now - self._since < SILENT:
            return False
        text = f"FormEase: the database does not answer ({socket.gethostname()}, for {now - self._since:.0f} s)"
        self._reported = _report(text)
        return self._reported

    def works(self) -> bool:
        """Note a success; returns whether the end of a reported failure was sent now."""
        since, self._since = self._since, None
        if since is None or not self._reported:
            return False
        text = f"FormEase: the database answers again ({socket.gethostname()}, after {self._clock() - since:.0f} s)"
        self._reported = False
        return _report(text)


_watch = DatabaseWatch()


def watch_database(answers: bool) -> None:
    """Note whether PostgreSQL answers; called by the sampler in every slot."""
    if answers:
        _watch.works()
    else:
        _watch.failed()


def _report(text: str) -> bool:
    if not settings.ALERT_FALLBACK_URL:
        return False
    return _call("POST", settings.ALERT_FALLBACK_URL, msgspec.json.encode({"text": text}), guard.TOTAL_SECONDS)


def _call(method: str, url: str, body: bytes, seconds: float) -> bool:
    headers = {"Content-Type": "application/json"} if body else {}
    try:
        response = guard.request(method, url, body, headers, trusted=True, seconds=seconds)
    except FAILURES as error:
        log.warning("%s: %s", guard.host_of(url), type(error).__name__)
        return False
    if not 200 <= response.status < 300:
        log.warning("%s answered %d", guard.host_of(url), response.status)
    return 200 <= response.status < 300
