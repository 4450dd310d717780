"""`manage.py rebuild_projection NAME …`: rebuild read tables from the log while they are in use."""

from __future__ import annotations

import sys
from typing import Any

import msgspec
from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from events import errors
from events.rebuild import builder as rebuild
from events.rebuild import read_tables
from events.rebuild.read_tables import RebuildProgress


class Command(BaseCommand):
    help = (
        "Rebuild read tables from the event log beside the live ones, and swap them in one short transaction. Reading "
        "and writing continue meanwhile. An interrupted rebuild continues where it stopped."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        known = ", ".join(table.name for table in read_tables.tables())
        parser.add_argument("names", nargs="+", metavar="NAME", help=f"read tables: {known}")
        parser.add_argument(
            "--fresh", action="store_true", help="start from the beginning, discarding an interrupted rebuild"
        )
        parser.add_argument("--take-over", action="store_true", help="take over from a builder that hangs")
        parser.add_argument("--json", action="store_true", help="print one line of JSON per table instead of progress")
        parser.add_argument(
            "--patience",
            type=float,
            default=rebuild.PATIENCE,
            metavar="SECONDS",
            help="time limit to get the lock for the swap (default: %(default)g)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        for name in options["names"]:
            with Bar(name, silent=options["json"]) as bar:
                try:
                    done = rebuild.rebuild(
                        name,
                        fresh=options["fresh"],
                        take_over=options["take_over"],
                        patience=options["patience"],
                        report=bar.show,
                    )
                except errors.EventsError as error:
                    raise CommandError(error.message) from error
            if options["json"]:
                self.stdout.write(msgspec.json.encode(done).decode())
            else:
                skipped = f", without {done.unreadable:,} that cannot be read" if done.unreadable else ""
                self.stdout.write(
                    f"{name}: rebuilt from {done.events:,} events{skipped}, up to position {done.position:,}"
                )


class Bar:
    """A progress bar over the positions of the log, with phase and remaining time; on a terminal only."""

    def __init__(self, name: str, *, silent: bool) -> None:
        self._bar: tqdm[Any] = tqdm(
            desc=name, unit=" positions", unit_scale=True, disable=True if silent else None, file=sys.stderr
        )

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show(self, now: RebuildProgress) -> None:
        if self._bar.disable:
            return
        if self._bar.total is None:  # the rate is that of this run, also when it continues an earlier one
            self._bar.initial = self._bar.n = self._bar.last_print_n = now.position
        self._bar.total = max(now.target, now.position)
        self._bar.set_postfix_str(f"{now.phase}, {now.events:,} events", refresh=False)
        self._bar.update(now.position - self._bar.n)
