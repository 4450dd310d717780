"""`manage.py createsuperuser`: Django's command, with an event for the new login."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.management.commands import createsuperuser
from django.db.models.signals import post_save

from backoffice import models
from backoffice.sections.staff import recording
from events import context


class Command(createsuperuser.Command):
    def handle(self, *args: Any, **options: Any) -> str | None:
        with context.acting(context.Context(), actor="command:createsuperuser"):
            post_save.connect(_record, sender=models.Staff)
            try:
                return super().handle(*args, **options)
            finally:
                post_save.disconnect(_record, sender=models.Staff)


def _record(instance: models.Staff, *, created: bool, **_: Any) -> None:
    """Appends the event in the transaction of the insert."""
    if created:
        recording.record(instance, *recording.changes(None, instance))
