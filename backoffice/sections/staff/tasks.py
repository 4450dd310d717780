"""Upkeep by the clock."""

from __future__ import annotations

from celery import shared_task

from backoffice.sections.staff import sign_in


@shared_task(name="backoffice.tasks.tell_failed_sign_ins")  # the name that queues and beat know
def tell_failed_sign_ins() -> int:
    """Bring failed attempts of five minutes and more ago into the log; returns how many events that took."""
    sign_in.forget_budgets()
    return sign_in.tell_failures()
