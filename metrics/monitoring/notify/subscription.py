"""The subscription `notifications`: sends soon after each alert event, and about once a second, without Celery.

Its runner holds a lease, so one process at a time does so. Sending may take long, and runs in a thread of its own: the
runner renews its lease meanwhile. Deliveries that a thread has not sent when the process ends are sent by the next
runner.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Final

from django.db import connection

from events.subscriptions import runner as subscriptions
from events.types import RecordedEvent
from metrics.monitoring.notify import planner, sender

log = logging.getLogger(__name__)

_busy = threading.Lock()


def _ignore(_events: Sequence[RecordedEvent]) -> None:
    """Do nothing: the events only wake the runner, and their deliveries were written with them."""


def tick(_position: int) -> None:
    """Send due messages in the background, unless a thread is still sending."""
    if _busy.acquire(blocking=False):
        threading.Thread(target=_send, name="notifications", daemon=True).start()


def _send() -> None:
    try:
        sender.send_due()
    except Exception as error:
        log.error("notifications: %s", error, exc_info=error)
    finally:
        connection.close()
        _busy.release()


SUBSCRIPTION: Final = subscriptions.Subscription(
    name="notifications", handle=_ignore, types=tuple(planner.KINDS), tick=tick, start=None
)


def register() -> None:
    subscriptions.register(SUBSCRIPTION)
