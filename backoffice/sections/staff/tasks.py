"""Periodic tasks of staff logins."""

from __future__ import annotations

from celery import shared_task

from backoffice.sections.staff import sign_in


@shared_task(name="backoffice.tasks.tell_failed_sign_ins")  # the name in queues and in the schedule
def record_failed_sign_ins() -> int:
    """Writes failed sign-ins older than five minutes to the log; returns the number of events.

    Also deletes the budgets that are full again.
    """
    sign_in.forget_budgets()
    return sign_in.record_failures()
