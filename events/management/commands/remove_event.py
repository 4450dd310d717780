"""`manage.py remove_event POSITION --reason TEXT`: the only way to remove the contents of an event."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from events import errors, removal, types
from events.rebuild import read_tables


class Command(BaseCommand):
    help = (
        "Permanently remove the contents of one event, because the law requires it. Its position and its hash stay, "
        "and the removal, who did it and why, is recorded. Needs the owner's rights on the log. To erase a person, "
        "use erase_user."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("position", type=int)
        parser.add_argument("--reason", required=True)
        parser.add_argument("--no-input", action="store_true", help="do not ask for confirmation")

    def handle(self, *args: Any, **options: Any) -> None:
        position = options["position"]
        if not options["no_input"] and _confirmation(position) != str(position):
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
                self.stdout.write(f"now rebuild the table that shows it: manage.py rebuild_projection {table.name}")
        self.stdout.write("backups, exports and archives made earlier still contain it")


def _confirmation(position: int) -> str:
    try:
        return input(f"Remove event {position} permanently? Type its position to confirm: ")
    except EOFError:
        raise CommandError("Nothing was removed: without a terminal, confirm with --no-input.") from None
