"""`manage.py changepassword NAME`: Django's command, with an event; ends all sessions of the login."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.management.commands import changepassword

from events import context


class Command(changepassword.Command):
    def handle(self, *args: Any, **options: Any) -> str | None:
        with context.acting(context.Context(), actor="command:changepassword"):
            return super().handle(*args, **options)
