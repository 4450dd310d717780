"""Celery tasks of the counters."""

from __future__ import annotations

from celery import shared_task

from metrics.counters import reconcile as comparison


@shared_task(name="metrics.counters.tasks.reconcile")
def reconcile() -> str:
    """Compare the next slice of users and forms, and yesterday; returns the state, `busy` while another compares."""
    outcome = comparison.reconcile(comparison.next_slice())
    return outcome.state if outcome else "busy"
