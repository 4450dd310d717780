"""Celery tasks of notifications."""

from __future__ import annotations

from typing import Final

from celery import shared_task

from events import store
from metrics.monitoring.notify import sender

KEPT_DAYS: Final = 90

FORGET: Final = """
delete from metrics_delivery where id = any(array(
    select id from metrics_delivery
     where decided_at < now() - %s * interval '1 day' and state not in ('waiting', 'muted') limit 5000)) returning 1
"""

FORGET_ATTEMPTS: Final = """
delete from metrics_attempt where delivery_id = any(array(
    select id from metrics_delivery
     where decided_at < now() - %s * interval '1 day' and state not in ('waiting', 'muted'))) returning 1
"""


@shared_task(acks_late=False)
def send_notifications() -> int:
    """Send the deliveries that are due; returns how many messages were delivered."""
    return sender.send_due()


@shared_task
def forget_deliveries() -> int:
    """Delete finished deliveries after 90 days; returns how many."""
    store.query(FORGET_ATTEMPTS, (KEPT_DAYS,))
    gone = 0
    while batch := len(store.query(FORGET, (KEPT_DAYS,))):
        gone += batch
    return gone
