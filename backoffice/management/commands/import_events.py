"""`manage.py import_events FILE.jsonl`: events that `export_events` wrote, into this log and its read tables."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Final

import msgspec
from django.core.management import BaseCommand, CommandError
from django.core.management.base import CommandParser
from django.db import transaction
from tqdm import tqdm

from backoffice.api import commands as command_view
from events import aggregate, context, errors, projections, signals, store, strict_json, types

BATCH: Final = 1000
# An event as it is exported: its data and the personal part of it, each as large as the store takes, and the rest.
MAX_LINE: Final = 4 * store.MAX_EVENT_BYTES
DEPTH: Final = strict_json.MAX_STORED_DEPTH + 2


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What a line must hold to be an event again; where and when it was stored is decided anew."""

    stream: str
    version: int
    event: str
    schema_version: int
    data: types.JsonDict
    event_id: uuid.UUID
    actor: str = context.SYSTEM
    reason: str | None = None
    correlation_id: uuid.UUID | None = None
    causation_id: uuid.UUID | None = None
    metadata: dict[str, str] = {}
    unreadable: str | None = None

    def context(self) -> context.Context:
        """Who did it then, and why: kept with the event, though it is stored now."""
        return context.Context(
            actor=self.actor,
            actor_name=self.metadata.get("actor_name"),
            reason=self.reason,
            ip=self.metadata.get("ip"),
            user_agent=self.metadata.get("user_agent"),
            correlation_id=self.correlation_id,
            causation_id=self.causation_id,
        )


class Line(msgspec.Struct, frozen=True):
    number: int
    record: Record
    event: types.Event


class Command(BaseCommand):
    help = (
        "Store the events of an export. The whole file is checked before the first write, then written in transactions "
        "of a thousand. Events that are here already are passed over, so an interrupted import is finished by running "
        "it again. Positions and times of storage are new; who, why and the data stay."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--dry-run", action="store_true", help="check the file; write nothing")
        parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")

    def handle(self, *args: Any, file: Path, **options: Any) -> None:
        try:
            total = check(file)
            added = 0 if options["dry_run"] else store_all(file, total)
        except OSError as error:
            raise CommandError(f"{file}: {error.strerror}") from None
        said = {"file": str(file), "events": total, "added": added, "dry_run": options["dry_run"]}
        if options["json"]:
            self.stdout.write(json.dumps(said))
        else:
            self.stdout.write(f"{file}: {total} events, {added} added, {total - added} not")


# -- reading --------------------------------------------------------------------------------------------------------


def check(file: Path) -> int:
    """Read every line and follow every stream; returns how many events there are. `CommandError` names the line."""
    reached: dict[str, int] = {}
    total = 0
    for line in read(file):
        stream, version = line.record.stream, line.record.version
        if version < 1 or version != reached.get(stream, version - 1) + 1:
            raise _wrong(line.number, f"{stream} goes on with version {version} after {reached.get(stream, 0)}")
        reached[stream] = version
        total += 1
    return total


def read(file: Path) -> Iterator[Line]:
    with file.open("rb") as opened:
        for number, text in enumerate(iter(partial(opened.readline, MAX_LINE + 1), b""), start=1):
            if len(text) > MAX_LINE:
                raise _wrong(number, f"it has more than {MAX_LINE:,} bytes")
            if text.strip():
                yield parsed(number, text)


def parsed(number: int, text: bytes) -> Line:
    try:
        record = msgspec.convert(strict_json.loads(text, max_bytes=MAX_LINE, max_depth=DEPTH), Record)
        if record.unreadable:
            raise errors.InvalidEvent(f"{record.event} could not be read where it was exported ({record.unreadable})")
        category, key = types.category_of(record.stream), types.key_of(record.stream)
        aggregate.of_category(category)
        if record.event.partition(".")[0] != category or command_view.checked_key(category, key) != key:
            raise errors.InvalidEvent(f"{record.event} does not belong into a stream called {record.stream!r}")
        event = types.decode_event(record.event, record.schema_version, record.data)
    except (ValueError, msgspec.ValidationError, errors.EventsError) as error:
        said = getattr(error, "fields", None) or error
        raise _wrong(number, str(said)) from None
    return Line(number, record, event)


def _wrong(number: int, message: str) -> CommandError:
    return CommandError(f"line {number}: {message}")


# -- writing --------------------------------------------------------------------------------------------------------

KNOWN = "select event_id from events_event where event_id = any(%s)"


def store_all(file: Path, total: int) -> int:
    """Write what is not here yet; returns how many that were."""
    added, lines = 0, read(file)
    with tqdm(desc="import", unit=" events", total=total, disable=None) as bar:
        while batch := list(islice(lines, BATCH)):
            added += store_batch(batch)
            bar.update(len(batch))
    return added


def store_batch(batch: Sequence[Line]) -> int:
    try:
        with transaction.atomic():
            return _store(batch)
    except errors.EventsError as error:
        where, reason = _culprit(batch, error)
        lines = f"lines {batch[0].number}-{batch[-1].number} were not written, those before them were"
        raise CommandError(f"line {where}: {reason} ({lines})") from None


def _store(batch: Sequence[Line]) -> int:
    """Project, then append: the order of a command. Events of one author go together."""
    known = {row[0] for row in store.query(KNOWN, ([line.record.event_id for line in batch],))}
    fresh = [line for line in batch if line.record.event_id not in known]
    now = store.query("select now()")[0][0]
    for acting, together in groupby(fresh, key=lambda line: line.record.context()):
        lines = list(together)
        new = [_new_event(line, now) for line in lines]
        projections.project(new)
        with context.acting(acting):
            position = store.append_many(list(_appends(lines)))[-1].position
        store.once_committed(signals.events_recorded.send_robust, sender=None, events=new, position=position)
    return len(fresh)


def _new_event(line: Line, now: Any) -> types.NewEvent:
    record = line.record
    return types.NewEvent(
        stream=record.stream, version=record.version, data=line.event, event_id=record.event_id, recorded_at=now
    )


def _appends(lines: Iterable[Line]) -> Iterator[store.Append]:
    by_stream: dict[str, list[Line]] = {}
    for line in lines:
        by_stream.setdefault(line.record.stream, []).append(line)
    for stream, found in by_stream.items():
        yield store.Append(
            stream=stream,
            events=[line.event for line in found],
            expected=found[0].record.version - 1,
            event_ids=[line.record.event_id for line in found],
        )


def _culprit(batch: Sequence[Line], error: errors.EventsError) -> tuple[int, str]:
    """Which line it was: the batch once more, line by line, and taken back."""
    try:
        with transaction.atomic():
            for line in batch:
                number = line.number
                _store([line])
            transaction.set_rollback(True)
    except errors.EventsError as found:
        fields = getattr(found, "fields", None)
        return number, found.message + (f" {fields}" if fields else "")
    return batch[0].number, error.message
