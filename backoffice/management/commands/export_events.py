"""`manage.py export_events [FILE.jsonl]`: writes the log, or a part of it, as JSON lines."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

import orjson
from django.core.management import BaseCommand, CommandError
from django.core.management.base import CommandParser
from tqdm import tqdm

from events import store, types
from events.export_reads import ExportReads
from events.types import RecordedEvent

BATCH: Final = 1000


class Command(BaseCommand):
    help = (
        "Write events as JSON lines, in global order, up to the current head. They contain personal data in plain "
        "text: protect the file like the database. `import_events` reads it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", nargs="?", type=Path, help="target; default: standard output")
        parser.add_argument("--after", type=int, default=0, metavar="POSITION", help="only events after this position")
        parser.add_argument("--type", action="append", help="only this type, such as user.created; may be repeated")
        parser.add_argument("--json", action="store_true", help="print a summary as one JSON object (needs FILE)")

    def handle(self, *args: Any, file: Path | None, after: int, type: list[str] | None, **options: Any) -> None:
        known = {kind.name for kind in types.event_types()}
        if unknown := sorted(set(type or ()) - known):
            raise CommandError(f"There is no event type {unknown[0]!r}; known: {', '.join(sorted(known))}.")
        if options["json"] and file is None:
            raise CommandError("--json needs a FILE, because the events go to standard output.")
        with _target(file) as target:
            reads = ExportReads()
            count = _write(target, after, type, reads)
        summary = {"events": count, "head": reads.head, "file": str(file) if file else None}
        if options["json"]:
            self.stdout.write(json.dumps(summary))
        else:
            self.stderr.write(f"{count} events, up to position {reads.head}")


@contextlib.contextmanager
def _target(file: Path | None) -> Iterator[IO[bytes]]:
    """Opens standard output, or a file that appears under its name only when it is complete."""
    if file is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    partial = file.with_name(f"{file.name}.part")
    try:
        with partial.open("wb") as opened:
            yield opened
        partial.replace(file)
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)


def _write(target: IO[bytes], after: int, kinds: list[str] | None, reads: ExportReads) -> int:
    def following() -> list[RecordedEvent]:
        return store.read_all(after, BATCH, upto=reads.head, types=kinds)

    count = 0
    with tqdm(desc="export", unit=" events", disable=None) as bar:
        while batch := reads.run(following):
            for event in batch:
                target.write(orjson.dumps({**event.to_wire(), "metadata": event.metadata}) + b"\n")
            after, count = batch[-1].position, count + len(batch)
            bar.update(len(batch))
    return count
