"""`manage.py seal_events`: seal the log up to its head; write seals, events and proofs to files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from events import errors, head
from events.archive import reader as archives
from events.integrity import export, seals
from events.integrity.seals import Seal
from events.integrity.stored_rows import StoredRow


class Command(BaseCommand):
    help = (
        "Seal the log up to its head, so that later changes to it can be proved. Store the printed hash, or an export "
        "of the seals, where the administrators of this database cannot write. `verify_events` checks them."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--export", type=Path, metavar="FILE", help="write all seals as JSON lines (*.gz: compressed)"
        )
        parser.add_argument(
            "--events",
            type=Path,
            metavar="FILE",
            help="write all sealed events as JSON lines, exactly as stored, personal data included",
        )
        parser.add_argument("--proof", type=int, metavar="POSITION", help="print the proof of one event as JSON")
        parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")

    def handle(self, *args: Any, **options: Any) -> None:
        made = self._seal()
        if options["proof"] is not None:
            return self._prove(options["proof"])
        last = seals.last()
        number, upto, link = last if last is not None else (0, 0, b"")
        shown: dict[str, Any] = {"made": made, "seals": number, "upto": upto, "hash": link.hex() or None}
        if options["export"]:
            shown["exported_seals"] = write(options["export"], seals.every_seal())
        if options["events"]:
            shown["exported_events"] = write(options["events"], _events(upto))
        self.stdout.write(json.dumps(shown) if options["json"] else _text(shown))
        return None

    def _seal(self) -> int:
        last = seals.last()
        done = last[1] if last is not None else 0
        with tqdm(desc="seal", unit=" positions", total=head.safe() - done, disable=None) as bar:

            def show(made: Seal) -> None:
                bar.update(made.upto - made.after)

            return seals.seal(on_seal=show)

    def _prove(self, position: int) -> None:
        try:
            proved = archives.proof(position)
        except errors.EventsError as error:
            raise CommandError(str(error)) from None
        self.stdout.write(msgspec.json.encode(proved).decode())


def _events(upto: int) -> Iterable[StoredRow]:
    with tqdm(desc="export", unit=" events", disable=None) as bar:
        for chunk in archives.rows(0, upto):
            yield from chunk
            bar.update(len(chunk))


def write(file: Path, records: Iterable[StoredRow | Seal]) -> int:
    """Write records as lines to a file that gets its name once it is complete; returns how many."""
    count, partial = 0, file.with_name(f"part-{file.name}")
    try:
        with export.open_file(partial, "wb") as opened:
            for record in records:
                opened.write(export.line(record))
                count += 1
        partial.replace(file)
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)
    return count


def _text(shown: dict[str, Any]) -> str:
    if not shown["seals"]:
        return "nothing to seal: the log is empty"
    lines = [
        f"{shown['made']} new seals; {shown['seals']} in all, up to position {shown['upto']}",
        f"hash {shown['hash']}",
    ]
    lines += [
        f"{shown[name]} {name.removeprefix('exported_')} written" for name in shown if name.startswith("exported_")
    ]
    return "\n".join(lines)
