"""`manage.py restore_archive LOW`: restore an archived partition of the log into the database."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from events import errors
from events.archive import reader as archives
from events.archive import restore
from events.management.commands.archive_events import Bar


class Command(BaseCommand):
    help = (
        "Verify an archived partition of the log and restore it into the database; only the newest one can be "
        "restored. Needed before a disk of archives is removed, or for work that would read files for too long. "
        "Without LOW: list the archives."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("low", type=int, nargs="?", help="its first position")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["low"] is None:
            for found in archives.every():
                where = "archived" if found.gone else "in the log, and in a file"
                span = f"{found.low} to {found.high - 1}"
                self.stdout.write(f"{span}: {found.events:,} events, {where}, {found.file}, {found.bytes:,} bytes")
            return
        try:
            with Bar() as bar:
                restored = restore.restore(options["low"], report_progress=bar.show)
        except errors.EventsError as error:
            raise CommandError(error.message) from error
        self.stdout.write(
            f"positions {restored.low} to {restored.high - 1} are in the log again: {restored.events:,} events"
        )
