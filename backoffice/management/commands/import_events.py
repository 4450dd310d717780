"""`manage.py import_events FILE.jsonl`: imports the events of a file that `export_events` wrote."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Final

import msgspec
import psycopg
from django.core.management import BaseCommand, CommandError
from django.core.management.base import CommandParser
from django.db import DatabaseError, transaction
from tqdm import tqdm

from backoffice import preconditions, section
from events import aggregate, context, encoding, errors, projections, store, strict_json, types
from events.privacy import encryption, key_witness, subject_keys

BATCH: Final = 1000
# The longest line: the event's data and its personal part, each up to the limit of the store, and the metadata.
MAX_LINE: Final = 4 * encoding.MAX_EVENT_BYTES
DEPTH: Final = strict_json.MAX_STORED_DEPTH + 2


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the file; position and time of storage are assigned anew."""

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
        """Returns the context with the original actor and reason; only the time of storage is new."""
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
        "Store the events of an export. The whole file is checked before the first write, in a dry run too: each line, "
        "what is here already, and, in one transaction that is rolled back, the rules of the read tables. Then it is "
        "written in transactions of a thousand. Stored events are skipped, so the same command finishes an interrupted "
        "import. Positions and times of storage are new; actor, reason and data are kept. "
        "Events about the exporting installation (its logins, its operation) are left out."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--dry-run", action="store_true", help="check the file; write nothing")
        parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")

    def handle(self, *args: Any, file: Path, **options: Any) -> None:
        try:
            total, fresh, left_out = check(file)
            added = 0 if options["dry_run"] else store_all(file, total)
        except OSError as error:
            raise CommandError(f"{file}: {error.strerror}") from None
        except (errors.EventsError, DatabaseError, psycopg.Error) as error:
            raise CommandError(f"{file}: {str(error).strip()}. {NOTHING}") from None
        summary = {"file": str(file), "events": total, "added": added, "already_there": total - fresh}
        summary["left_out"] = left_out
        summary |= {"dry_run": options["dry_run"], "to_add": fresh} if options["dry_run"] else {"dry_run": False}
        if options["json"]:
            self.stdout.write(json.dumps(summary))
            return
        done = f"0 added, {fresh} to add" if options["dry_run"] else f"{added} added"
        self.stdout.write(f"{file}: {total} events, {done}, {total - fresh} were there already")
        if left_out:
            self.stderr.write(
                f"note: {left_out} events about the other installation (logins, operation) were left out; they are not "
                "part of these numbers"
            )


# -- reading --------------------------------------------------------------------------------------------------------


def check(file: Path) -> tuple[int, int, int]:
    """Reads every line, checks every stream, and projects everything in a transaction that is rolled back.

    Returns the numbers of events of records, of new ones among them, and of other events, which are left out. Raises
    `CommandError` with the invalid lines; then nothing was written. Nothing is appended here, so readers of the log are
    not delayed; writers of the same records may wait until the check ends.
    """
    checking = FileCheck()
    lines = read(file, checking)
    with tqdm(desc="check", unit=" events", disable=None) as bar, transaction.atomic():
        while batch := list(islice(lines, BATCH)):
            checking.follow(batch)
            if not checking.problems:  # an invalid line makes later ones invalid too, so those are not checked
                checking.apply(batch)
            bar.update(len(batch))
        transaction.set_rollback(True)
    if checking.problems:
        raise CommandError(f"{checking.problems}\n{NOTHING}")
    return checking.total, checking.fresh, checking.left_out


NOTHING: Final = "Nothing was written."
MAX_PROBLEMS: Final = 20
KNOWN: Final = "select event_id, stream, version from events_event where event_id = any(%s)"
ERASED: Final = "select subject from events_subject_key where subject = any(%s) and erased_at is not null"
HEADS: Final = "select stream, version from events_stream where stream = any(%s)"


class Problems:
    """The first invalid lines, and their total number."""

    def __init__(self) -> None:
        self._first: list[str] = []
        self._total = 0

    def add(self, problem: str) -> None:
        self._total += 1
        if self._total <= MAX_PROBLEMS:
            self._first.append(problem)

    def __bool__(self) -> bool:
        return self._total > 0

    def __str__(self) -> str:
        more = self._total - len(self._first)
        return "\n".join([*self._first, *([f"and {more} more"] if more else ())])


class FileCheck:
    """Checks the file in batches. Keeps a few hundred bytes for each stream and each event's id."""

    def __init__(self) -> None:
        self.total = self.fresh = self.left_out = 0
        self.problems = Problems()
        self._seen: set[bytes] = set()
        self._reached: dict[str, int] = {}  # versions in the file
        self._heads: dict[str, int] = {}  # versions stored here, and those after the import

    def follow(self, batch: Sequence[Line]) -> None:
        """Checks that versions have no gap, in the file and after the stored ones."""
        self.total += len(batch)
        known = {row[0]: row[1:] for row in store.query(KNOWN, (_ids(batch),))}
        unseen = {line.record.stream for line in batch} - self._heads.keys()
        self._heads |= dict.fromkeys(unseen, 0) | dict(store.query(HEADS, (list(unseen),)))
        for line in batch:
            if problem := self._version_problem(line, known.get(line.record.event_id)):
                self.problems.add(f"line {line.number}: {problem}")

    def _version_problem(self, line: Line, known: tuple[str, int] | None) -> str | None:
        stream, version = line.record.stream, line.record.version
        if line.record.event_id.bytes in self._seen:
            return f"the event {line.record.event_id} is in the file twice"
        self._seen.add(line.record.event_id.bytes)
        before = self._reached.get(stream)
        self._reached[stream] = version
        if version < 1 or (before is not None and version != before + 1):
            return f"{stream} goes on with version {version} after {before or 0}"
        if known is not None:
            there = (stream, version) == tuple(known)
            return None if there else f"the event is here as version {known[1]} of {known[0]}"
        self.fresh += 1
        here, self._heads[stream] = self._heads[stream], version
        return None if here == version - 1 else f"{stream} is at version {here} here; the file goes on with {version}"

    def apply(self, batch: Sequence[Line]) -> None:
        """Applies the batch to read tables and keys; a refusal becomes a problem that names its line."""
        try:
            with transaction.atomic():
                _project(batch)
        except (psycopg.Error, DatabaseError):
            raise
        except Exception as error:  # a projection may fail on an event that no command would have created
            number, reason = _failing_line(batch, error)
            self.problems.add(f"line {number}: {reason}")


def _ids(lines: Sequence[Line]) -> list[uuid.UUID]:
    return [line.record.event_id for line in lines]


def _project(batch: Sequence[Line]) -> None:
    """Encrypts and projects the new events of a batch without appending them; the caller rolls this back."""
    known = {row[0] for row in store.query(KNOWN, (_ids(batch),))}
    fresh = [line for line in batch if line.record.event_id not in known]
    now = store.query("select now()")[0][0]
    for acting, together in groupby(fresh, key=lambda line: line.record.context()):
        lines = list(together)
        _encrypt(lines, acting.reason)
        with preconditions.waived("all"):  # as in `_store`
            projections.project([_new_event(line, now) for line in lines])


def _encrypt(lines: Sequence[Line], reason: str | None) -> None:
    """Rejects events that the append would refuse: sizes, reasons, erased subjects. Keys made here are rolled back."""
    encryptor = encryption.Encryptor(reason)
    needed = set()
    for line in lines:
        known = types.event_type_of(line.record.event)
        entry: types.JsonDict = {"s": line.record.stream, "t": known.name, "i": line.record.event_id}
        encryptor.add(entry, known, line.event, encoding.encode, born=False)
        if known.within is not None:
            needed.add(known.within.of(line.record.stream, line.event))
    if needed and store.query(ERASED, (sorted(needed),)):
        raise errors.Erased
    if missing := encryptor.missing:
        key_witness.prove()
        encryptor.learn(store.query(subject_keys.MAKE, subject_keys.offer(missing)), lambda _act: None)
    encryptor.finish()


def read(file: Path, checking: FileCheck | None = None) -> Iterator[Line]:
    """Yields the events of records in a file.

    `checking` collects invalid lines and counts events that are left out. Without it, the first invalid line ends the
    reading.
    """
    with file.open("rb") as opened:
        for number, text in enumerate(iter(partial(opened.readline, MAX_LINE + 1), b""), start=1):
            if len(text) > MAX_LINE:
                raise _wrong(number, f"it has more than {MAX_LINE:,} bytes")
            if text.strip():
                try:
                    line = parse(number, text)
                except CommandError as error:
                    if checking is None:
                        raise
                    checking.problems.add(str(error))
                    continue
                if line is not None:
                    yield line
                elif checking is not None:
                    checking.left_out += 1


def parse(number: int, text: bytes) -> Line | None:
    """Returns the event of a line; None for events about the exporting installation instead of a record."""
    try:
        record = msgspec.convert(strict_json.loads(text, max_bytes=MAX_LINE, max_depth=DEPTH), Record)
        category, key = types.category_of(record.stream), types.key_of(record.stream)
        if not aggregate.is_known(category) and _is_of_installation(record.event):
            return None
        if record.unreadable:
            raise errors.InvalidEvent(f"{record.event} could not be read where it was exported ({record.unreadable})")
        aggregate.of_category(category)
        if record.event.partition(".")[0] != category or _checked_key(category, key) != key:
            raise errors.InvalidEvent(f"{record.event} does not belong into a stream called {record.stream!r}")
        event = types.decode_event(record.event, record.schema_version, record.data)
    except (ValueError, msgspec.ValidationError, errors.EventsError) as error:
        message = getattr(error, "fields", None) or error
        raise _wrong(number, str(message)) from None
    return Line(number, record, event)


def _checked_key(category: str, key: str) -> str:
    kind = section.find(category)
    return kind.key(key) if kind else section.uuid_key(key)


def _is_of_installation(event: str) -> bool:
    """Returns whether the event is known but about the installation: staff logins, keys, subscriptions, rebuilds."""
    return any(known.name == event for known in types.event_types()) and not aggregate.is_known(event.partition(".")[0])


def _wrong(number: int, message: str) -> CommandError:
    return CommandError(f"line {number}: {message}")


# -- writing --------------------------------------------------------------------------------------------------------


def store_all(file: Path, total: int) -> int:
    """Writes the events that are not stored yet and returns their number."""
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
    except (errors.EventsError, DatabaseError, psycopg.Error) as error:
        where = f"lines {batch[0].number}-{batch[-1].number} were not written, those before them were"
        raise CommandError(f"{str(error).strip()} ({where}; run the same command again to go on)") from None
    except KeyboardInterrupt:
        where = f"lines before {batch[0].number} were written"
        raise CommandError(f"interrupted; {where}. Run the same command again to go on.") from None


def _store(batch: Sequence[Line]) -> int:
    """Projects, then appends, in the order of a command. Consecutive events of one author are stored together."""
    known = {row[0] for row in store.query(KNOWN, (_ids(batch),))}
    fresh = [line for line in batch if line.record.event_id not in known]
    now = store.query("select now()")[0][0]
    for acting, together in groupby(fresh, key=lambda line: line.record.context()):
        lines = list(together)
        new = [_new_event(line, now) for line in lines]
        with preconditions.waived("all"):  # The event has happened already, so today's rules do not apply.
            projections.project(new)
        with context.acting(acting):
            store.append_many(list(_appends(lines)))
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


def _failing_line(batch: Sequence[Line], error: Exception) -> tuple[int, str]:
    """Returns the line that failed: applies the batch again line by line, and rolls it back."""
    number = batch[0].number
    try:
        with transaction.atomic():
            for line in batch:
                number = line.number
                _project([line])
            transaction.set_rollback(True)
    except Exception as found:
        error = found
    fields = getattr(error, "fields", None)
    message = error.message if isinstance(error, errors.EventsError) else f"{type(error).__name__}: {error}"
    return number, message + (f" {fields}" if fields else "")
