"""Sends deliveries: claim a batch, send it in one message, mark the result.

Called after each alert event and about once a second by the subscription `notifications`, and every five seconds by a
Celery task. Any number of processes may do so at once, and any of them may be killed: see `queue`.
"""

from __future__ import annotations

import logging
import os
import socket
import uuid
from typing import Final

from metrics.monitoring.notify import channels, queue
from metrics.monitoring.notify.queue import LEASE, Answer, Batch

log = logging.getLogger(__name__)

LIMIT: Final = 20


def send_due(limit: int = LIMIT, *, lease: float = LEASE) -> int:
    """Send up to `limit` batches that are due; returns how many were delivered.

    A channel that fails is left alone for the rest of this call, so that it cannot delay the others.
    """
    queue.settle()
    failed: set[uuid.UUID] = set()
    delivered = 0
    for _ in range(limit):
        batch = queue.claim(sender_name(), lease=lease, without=failed)
        if batch is None:
            break
        if _send(batch).outcome == "delivered":
            delivered += 1
        else:
            failed.add(batch.channel.id)
    return delivered


def send_one(delivery: int) -> Answer | None:
    """Send one delivery now if it is due; None when it is not, or another sender has it."""
    batch = queue.claim(sender_name(), only=delivery)
    return None if batch is None else _send(batch)


def sender_name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"[-80:]


def _send(batch: Batch) -> Answer:
    answer = channels.send(batch)
    queue.mark(batch, answer)
    if answer.outcome != "delivered":
        log.warning("notification to %s: %s (%s)", batch.channel.name, answer.outcome, answer.detail)
    return answer
