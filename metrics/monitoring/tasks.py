"""The scheduled sample."""

from __future__ import annotations

from celery import shared_task

from metrics.monitoring import sampling


# Acknowledged before it runs: a sample that a killed worker left is of no use to the next one.
@shared_task(name="metrics.sample", acks_late=False)
def sample() -> int | None:
    """Sample the present slot; returns it, or None when another process has it."""
    return sampling.tick()
