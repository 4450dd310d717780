"""The scheduled refresh of the materialized views."""

from __future__ import annotations

from celery import shared_task

from metrics.materialized import refresh


@shared_task(name="metrics.materialized.tasks.refresh_views")
def refresh_views() -> dict[str, str]:
    """Refresh the views as `manage.py refresh_views` does; returns the outcome of each. Failures are recorded."""
    return {outcome.name: outcome.status for outcome in refresh.refresh_all()}
