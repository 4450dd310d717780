"""`manage.py asyncapi`: writes the AsyncAPI description of the socket to standard output."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from realtime import asyncapi


class Command(BaseCommand):
    help = "Write the AsyncAPI description of the live events' socket (as at /asyncapi.json)."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(asyncapi.document().decode(), ending="")
