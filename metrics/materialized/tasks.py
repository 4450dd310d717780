"""The scheduled refresh of the materialized views."""

from __future__ import annotations

from typing import Any, Final

from celery import shared_task, signals

from metrics.materialized import refresh, views

FIRST: Final = 15  # seconds after the start of beat; by then the counters of a new installation are seeded


@shared_task(name="metrics.materialized.tasks.refresh_views")
def refresh_views() -> dict[str, str]:
    """Refresh the views as `manage.py refresh_views` does; returns the outcome of each. Failures are recorded."""
    return {outcome.name: outcome.status for outcome in refresh.refresh_all()}


@signals.beat_init.connect
def refresh_at_start(**_: Any) -> None:
    """Refresh soon after the start too: beat waits a whole period before its first run."""
    refresh_views.apply_async(countdown=FIRST, expires=views.EXPIRES)
