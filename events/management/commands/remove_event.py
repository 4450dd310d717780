"""`manage.py remove_event POSITION --reason TEXT`: the one way out of the log."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from events import errors, removal, types
from events.rebuild import read_tables


class Command(BaseCommand):
    help = (
        "Remove for ever what one event says, because the law demands it. Its place and its hash stay, and that it was "
        "removed, by whom and why, is written down. Needs the owner's rights on the log. Erasing a person is not this: "
        "see erase_user."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("position", type=int)
        parser.add_argument("--reason", required=True)
        parser.add_argument("--no-input", action="store_true", help="do not ask")

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
        for table in read_tables.tables():
            if table.category == category:
                self.stdout.write(f"now rebuild what shows it: manage.py rebuild_projection {table.name}")
        self.stdout.write("backups, exports and archives made before still hold it")
