"""`manage.py archive_events`: move closed, old parts of the log to compressed files."""

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
        "Move closed parts of the log to compressed files in ARCHIVE_DIR, the oldest first, each verified against the "
        "seals before it is removed from the database. What is archived is still read; restore_archive puts it back. "
        "Interrupted, it goes on where it was. What a subscription or a rebuild has still to read stays."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--keep-days",
            type=int,
            default=archiving.KEEP_DAYS,
            metavar="DAYS",
            help="leave parts with younger events in the log (default: %(default)s)",
        )
        parser.add_argument("--dry-run", action="store_true", help="only say what would be archived")
        parser.add_argument("--json", action="store_true", help="print one JSON object a part instead of text")

    def handle(self, *args: Any, **options: Any) -> None:
        seals.seal()
        keep = options["keep_days"]
        if options["dry_run"]:
            return self._foresee(keep)
        done = 0
        try:
            while (archived := _archive(keep)) is not None:
                done += 1
                said = {"low": archived.low, "high": archived.high, "file": archived.file, "events": archived.events}
                said |= {"bytes": archived.bytes, "sha256": archived.sha256.hex()}
                self.stdout.write(json.dumps(said) if options["json"] else _text(said))
        except errors.EventsError as error:
            raise CommandError(error.message) from error
        if not done:
            self._foresee(keep)
        return None

    def _foresee(self, keep_days: int) -> None:
        for part in archiving.parts():
            why = archiving.needed(part, keep_days)
            self.stderr.write(
                f"positions {part.low} to {part.high - 1}: {f'stay, {why}' if why else 'can be archived'}"
            )
            if why:
                break


def _archive(keep_days: int) -> archives.Archive | None:
    with Bar() as bar:
        return archiving.archive_next(keep_days, report_progress=bar.show)


class Bar:
    """A progress bar for each phase; on a terminal only."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None
        self._phase = ""

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, what: str, done: int, total: int) -> None:
        if self._bar is None or self._phase != what:
            self.__exit__()
            self._phase, self._bar = what, tqdm(desc=what, total=total, unit_scale=True, disable=None)
        self._bar.total = total
        self._bar.update(done - self._bar.n)


def _text(said: dict[str, Any]) -> str:
    return (
        f"positions {said['low']} to {said['high'] - 1}: {said['events']:,} events in {said['file']}, "
        f"{said['bytes']:,} bytes\nsha256 {said['sha256']}"
    )
