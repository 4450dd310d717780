"""`manage.py remove_event POSITION --reason TEXT`: removes the content of one event."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from events import errors, removal, types
from events.rebuild import builder as rebuild


class Command(BaseCommand):
    help = (
        "Remove the content of one event for ever, where the law demands it. Its position and its hash stay; the "
        "removal is recorded with actor and reason. Needs the owner's privileges on the log. To erase a person use "
        "erase_user instead."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("position", type=int)
        parser.add_argument("--reason", required=True)
        parser.add_argument("--no-input", action="store_true", help="do not ask for confirmation")

    def handle(self, *args: Any, **options: Any) -> None:
        position = options["position"]
        if not options["no_input"] and input(f"Remove event {position} for ever? Type its position: ") != str(position):
            raise CommandError("Nothing was removed.")
        try:
            removed = removal.remove(position, options["reason"])
        except errors.InvalidCommand as error:
            raise CommandError(" ".join(error.fields.values())) from None
        except errors.EventsError as error:
            raise CommandError(error.message) from None
        self.stdout.write(f"removed {removed.type}, {removed.stream} version {removed.version}")
        category = types.category_of(removed.stream)
        for table in rebuild.tables():
            if table.category == category:
                self.stdout.write(f"now rebuild the table that shows it: manage.py rebuild_projection {table.name}")
        self.stdout.write("earlier backups, exports and archives still contain it")
