"""`manage.py rewind_subscription NAME POSITION --reason TEXT`: after a restore, or to repeat effects."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from events import errors
from events.subscriptions import checkpoints


class Command(BaseCommand):
    help = (
        "Set a subscription to another position of the log; later events have their effect again. Needed when a "
        "restored log ends before the subscription's position (`run_subscriptions` reports that and stops). It is "
        "recorded in the log."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")
        parser.add_argument("position", type=int)
        parser.add_argument("--reason", required=True)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            checkpoints.rewind(options["name"], options["position"], options["reason"])
        except errors.InvalidCommand as error:
            raise CommandError(" ".join(error.fields.values())) from None
        except errors.EventsError as error:
            raise CommandError(error.message) from None
        self.stdout.write(f"{options['name']}: continues after position {options['position']}")
