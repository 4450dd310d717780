"""Builds read tables anew from the log while everybody goes on working, and swaps them in."""

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
        "Build read tables anew from the event log, beside the live ones, and swap them in one short transaction. "
        "Readers and writers go on. A rebuild that was interrupted goes on where it was."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        known = ", ".join(table.name for table in read_tables.tables())
        parser.add_argument("names", nargs="+", metavar="NAME", help=f"read tables: {known}")
        parser.add_argument(
            "--fresh", action="store_true", help="start anew, also where an interrupted rebuild is left"
        )
        parser.add_argument("--take-over", action="store_true", help="also from a builder that hangs")
        parser.add_argument("--json", action="store_true", help="print one line of JSON per table instead of progress")
        parser.add_argument(
            "--patience",
            type=float,
            default=rebuild.PATIENCE,
            metavar="SECONDS",
            help="how long to try for the lock of the swap (default: %(default)g)",
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
                left_out = f", without {done.unreadable:,} that cannot be read" if done.unreadable else ""
                self.stdout.write(
                    f"{name}: rebuilt from {done.events:,} events{left_out}, up to position {done.position:,}"
                )


class Bar:
    """The positions of the log as a progress bar, with the phase and the time left; on a terminal only."""

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
        if self._bar.total is None:  # the rate is of this run, also when it goes on from the middle
            self._bar.initial = self._bar.n = self._bar.last_print_n = now.position
        self._bar.total = max(now.target, now.position)
        self._bar.set_postfix_str(f"{now.phase}, {now.events:,} events", refresh=False)
        self._bar.update(now.position - self._bar.n)
