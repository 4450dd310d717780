"""Tasks of personal-data exports."""

from __future__ import annotations

import uuid
from typing import Final

from celery import shared_task

from backoffice.sections.privacy import export_jobs

LONG_SECONDS: Final = 12 * 3600


# Redelivered when the worker dies: the export continues with its next part.
@shared_task(time_limit=LONG_SECONDS, reject_on_worker_lost=True)
def make_export(key: str) -> None:
    """Make the parts of an export that are missing."""
    export_jobs.make(uuid.UUID(key))


@shared_task
def resume_exports() -> int:
    """Continue exports whose worker was lost, and delete old ones; returns how many were continued."""
    return export_jobs.resume()
