"""`manage.py archive_events`: move closed, old partitions of the log to compressed files."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from events import errors
from events.archive import reader as archives
from events.archive import writer as archiving
from events.integrity import seals


class Command(BaseCommand):
    help = (
        "Move closed partitions of the log to compressed files in ARCHIVE_DIR, oldest first; each file is verified "
        "against the seals before its events are removed from the database. Archived events can still be read; "
        "restore_archive restores them. An interrupted run continues. Partitions that a subscription or a rebuild "
        "still needs stay."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--keep-days",
            type=int,
            default=archiving.KEEP_DAYS,
            metavar="DAYS",
            help="keep partitions with younger events in the log (default: %(default)s)",
        )
        parser.add_argument("--dry-run", action="store_true", help="only show what would be archived")
        parser.add_argument("--json", action="store_true", help="print one JSON object per partition instead of text")

    def handle(self, *args: Any, **options: Any) -> None:
        seals.seal()
        keep = options["keep_days"]
        if options["dry_run"]:
            return self._explain(keep)
        done = 0
        try:
            while (archived := _archive(keep)) is not None:
                done += 1
                shown = {"low": archived.low, "high": archived.high, "file": archived.file, "events": archived.events}
                shown |= {"bytes": archived.bytes, "sha256": archived.sha256.hex()}
                self.stdout.write(json.dumps(shown) if options["json"] else _text(shown))
        except errors.EventsError as error:
            raise CommandError(error.message) from error
        if not done:
            self._explain(keep)
        return None

    def _explain(self, keep_days: int) -> None:
        for part in archiving.parts():
            reason = archiving.needed(part, keep_days)
            self.stderr.write(
                f"positions {part.low} to {part.high - 1}: {f'stay, {reason}' if reason else 'can be archived'}"
            )
            if reason:
                break


def _archive(keep_days: int) -> archives.Archive | None:
    with Bar() as bar:
        return archiving.archive_next(keep_days, report_progress=bar.show)


class Bar:
    """A progress bar for each phase, on a terminal only."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None
        self._phase = ""

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, phase: str, done: int, total: int) -> None:
        if self._bar is None or self._phase != phase:
            self.__exit__()
            self._phase, self._bar = phase, tqdm(desc=phase, total=total, unit_scale=True, disable=None)
        self._bar.total = total
        self._bar.update(done - self._bar.n)


def _text(shown: dict[str, Any]) -> str:
    return (
        f"positions {shown['low']} to {shown['high'] - 1}: {shown['events']:,} events in {shown['file']}, "
        f"{shown['bytes']:,} bytes\nsha256 {shown['sha256']}"
    )
