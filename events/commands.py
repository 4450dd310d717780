"""The one way in for every write. Admin, API, ingest, sync, import and the command line all dispatch here.

`dispatch` is the algorithm:

    1  context    who acts, why, and what caused it
    2  lock       the record's stream, so that nobody else decides about it meanwhile
    3  recall     the command's id: known? its first answer is the answer, and nothing happens again
    4  load       the state: newest usable snapshot + the events after it
    5  reconcile  moved since `base_version`? three-way merge; what cannot be merged is a `Conflict`
    6  decide     pure: command + state -> events; none means "unchanged". Some changes need a reason
    7  project    read tables, inside this transaction
    8  append     last but one: positions are drawn late, so the log's head is held back as briefly as can be
    9  remember   the answer under the command's id; a twin that got this far fails here and recalls instead

All of it is one transaction of two round trips (`events.db.pipeline`): steps 2 to 4 look, 7 to 9 write and commit. It is tried
again only for what PostgreSQL calls temporary (serialization failure, deadlock) and for losing the race to create a
stream or an answer.
"""

from __future__ import annotations

import hashlib
import hmac
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from itertools import groupby
from typing import Any, Final, Literal, TypeVar

import msgspec
import psycopg
from django.db import DatabaseError, connection

from events import aggregate as aggregates
from events import context, errors, projections, reconcile, signals, snapshots, store, strict_json, types
from events.aggregate import Aggregate, Decision
from events.db import arrays, pipeline
from events.privacy import master_keys
from events.types import Command, CommandData, Event, NewEvent

ATTEMPTS: Final = 5

Status = Literal["applied", "merged", "unchanged", "duplicate"]
T = TypeVar("T")


class EventRef(msgspec.Struct, frozen=True):
    type: str
    version: int
    position: int


class Result(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to a command.

    status    applied; merged (somebody else changed other things meanwhile); unchanged; duplicate (answered before)
    version   the stream's version afterwards; position: of the last event, None when nothing was stored
    merged    what a merge brought together, as notes
    """

    id: uuid.UUID
    status: Status
    stream: str
    version: int
    position: int | None
    events: tuple[EventRef, ...]
    merged: tuple[types.JsonDict, ...] = ()


class _Begun(msgspec.Struct, frozen=True):
    """What `events_begin` brings back: see its columns."""

    now: datetime
    fingerprint: bytes | None
    result: str | None
    version: int
    snapshot_version: int | None
    snapshot: str | None
    tail: str | None


BEGIN = """
select o_now, o_fingerprint, o_result, o_version, o_snapshot_version, o_snapshot, o_tail
  from events_begin(%s, %s, %s::int)
"""

REMEMBER = """
insert into events_command (id, stream, subject, fingerprint, result) values (%s, %s, %s, %s, %s::jsonb)
"""
REMEMBER_MANY = """
insert into events_command (id, stream, subject, fingerprint, result)
select (a->'answer'->>'id')::uuid, a->>'stream', a->>'subject', decode(a->>'fingerprint', 'hex'), a->'answer'
  from jsonb_array_elements(%s::jsonb) a
"""


def dispatch(command: Command, seen: Any = None) -> Result:
    """Carry out one command in one transaction; see the module's text for the steps.

    `seen` is the state its author decided on, where that is no version of the store: offline edits upon offline edits.

    Raises `InvalidCommand`, `Rejected`, `StreamNotFound`, `Conflict`, `IdempotencyKeyReused`, `StoreUnavailable`; then
    nothing was written. Repeating a command that succeeded returns its first answer with status ``duplicate``.
    """
    with context.acting(reason=command.reason or context.current().reason, causation_id=command.id):
        return _with_retries(partial(_dispatch_once, command, seen))


def _dispatch_once(command: Command, seen: Any) -> Callable[[], Result]:
    """The steps, all but sent: what is returned knows the result once the transaction has ended."""
    record = aggregates.of_command(type(command.data))
    stream = types.stream_name(record.category, command.key)
    begun = _Begun(*store.query(BEGIN, (command.id, stream, record.state_version))[0])  # 2, 3, 4
    if begun.result is not None:
        return partial(_recalled, command, stream, begun.fingerprint, begun.result)
    state, has_gaps = _with_gaps(command, stream, partial(_loaded, record, stream, begun))
    reconciled = partial(_reconciled, command, record, stream, state, begun.version, seen)
    data, notes = (command.data, ()) if has_gaps else reconciled()  # 5; despite gaps there is nothing to merge
    decided = record.decide(data, state, Decision(key=command.key, now=begun.now, has_gaps=has_gaps))  # 6
    _demand_reason(command, record, state, decided, begun.version)
    new = _numbered(stream, begun.version, decided, begun.now)
    answer = _answer(command, begun.version, new, notes)
    after = record.fold(decided, state)
    remembered = _remembered(command, stream, record.subject_of(stream, after), answer)  # refuses what is not JSON
    projections.project(new)  # 7
    placed = _appended(new, {stream: begun.version})  # 8
    _remember([remembered])  # 9
    if snapshots.due(record, begun.version, answer.version):
        snapshots.save(record, stream, answer.version, after)
    return lambda: _result(command, stream, answer, placed())


def recalled(command: Command) -> Result | None:
    """The first answer to a command, with status ``duplicate``; None when it was not carried out yet."""
    known = store.query(RECALL_MANY, ([command.id],))
    return _recalled(command, _stream_of(command), *known[0][1:]) if known else None


def dispatch_many(commands: Sequence[Command]) -> list[Result]:
    """Carry out commands in one transaction, all or nothing, with a handful of set-based statements.

    The same steps, events and projections as `dispatch`; commands for one stream are decided in the order given. When
    one is refused its error is raised with the attribute `command`, and nothing was written.
    """
    if not commands:
        return []
    if len({command.id for command in commands}) != len(commands):
        raise errors.InvalidCommand("Two commands share one id.", {"id": "occurs twice"})
    with context.acting(causation_id=context.current().causation_id):
        return _with_retries(partial(_dispatch_set, commands))


LOCK_MANY = """
select stream, version from events_stream where stream = any(%s) order by stream for update
"""

RECALL_MANY = "select id, fingerprint, result::text from events_command where id = any(%s)"


class _Work(msgspec.Struct):
    """One command of many on its way through the steps."""

    command: Command
    stream: str
    subject: str | None = None
    answer: _Answer | None = None
    new: list[NewEvent] = []


def _dispatch_set(commands: Sequence[Command]) -> Callable[[], list[Result]]:
    works = [_Work(command, _stream_of(command)) for command in commands]
    now: datetime = store.query("select now()")[0][0]
    before = dict(store.query(LOCK_MANY, (arrays.Texts({work.stream for work in works}),)))  # 2
    known = {
        row[0]: row[1:] for row in store.query(RECALL_MANY, (arrays.Uuids(command.id for command in commands),))
    }  # 3
    fresh = [work for work in works if work.command.id not in known] if known else works
    states, gaps = _states(fresh, before)  # 4
    again = {stream for stream, count in Counter(work.stream for work in fresh).items() if count > 1}
    for work in fresh:
        _decide_in_set(work, states, now, goes_on=work.stream in again, has_gaps=work.stream in gaps)  # 5, 6
    new = [event for work in fresh for event in work.new]
    remembered = [
        _remembered(work.command, work.stream, work.subject, work.answer) for work in fresh if work.answer is not None
    ]
    projections.project(new)  # 7, in the order given: a form may belong to a user made just before
    placed = _appended_by_reason(fresh, before)  # 8
    _remember(remembered)  # 9
    return lambda: [
        _result(work.command, work.stream, work.answer, placed())
        if work.answer is not None
        else _recalled(work.command, work.stream, *known[work.command.id])
        for work in works
    ]


def _states(works: Sequence[_Work], before: dict[str, int]) -> tuple[dict[str, tuple[Any, int]], set[str]]:
    """Step 4 for a set: the state and version of each stream that is there, and the streams whose state has gaps."""
    states, gaps = {}, set()
    for work in sorted(works, key=lambda work: work.stream):
        if work.stream in before and (work.stream not in states or work.stream in gaps):
            state, has_gaps = _with_gaps(work.command, work.stream, lambda: snapshots.state(work.stream)[0])  # noqa: B023
            states[work.stream] = (state, before[work.stream])
            gaps |= {work.stream} if has_gaps else set()
    return states, gaps


def _decide_in_set(
    work: _Work, states: dict[str, tuple[Any, int]], now: datetime, *, goes_on: bool, has_gaps: bool
) -> None:
    """Steps 5 and 6 for one of many; where the stream `goes_on`, `states` moves on for the next command."""
    command = work.command
    record = aggregates.of_command(type(command.data))
    state, version = states.get(work.stream) or (record.initial(), 0)
    try:
        reconciled = partial(_reconciled, command, record, work.stream, state, version)
        data, notes = (command.data, ()) if has_gaps else reconciled()
        events = record.decide(data, state, Decision(key=command.key, now=now, has_gaps=has_gaps))
        _demand_reason(command, record, state, events, version)
    except errors.EventsError as error:
        error.command = command  # type: ignore[attr-defined]
        raise
    after = record.fold(events, state)
    if goes_on:
        states[work.stream] = (after, version + len(events))
    work.subject = record.subject_of(work.stream, after)
    work.new = _numbered(work.stream, version, events, now)
    work.answer = _answer(command, version, work.new, notes)


def _stream_of(command: Command) -> str:
    return types.stream_name(aggregates.of_command(type(command.data)).category, command.key)


def _with_gaps(command: Command, stream: str, load: Callable[[], Any]) -> tuple[Any, bool]:
    """The state to decide on, and whether it lacks events. Only a command that is decided despite gaps gets such a
    state: what cannot be read, or decrypted, keeps nobody from taking it away.
    """
    try:
        return load(), False
    except (errors.UnreadableEvent, errors.Undecryptable):
        if not types.command_type_of(type(command.data)).despite_gaps:
            raise
        return snapshots.folded(stream).state, True


def _loaded(record: Aggregate, stream: str, begun: _Begun) -> Any:
    """Snapshot + tail; a snapshot that does not fit this release's state is folded again from the beginning."""
    if begun.version == 0:
        return record.initial()
    state = None
    if begun.snapshot and begun.snapshot_version:
        state = snapshots.decode(record, stream, begun.snapshot_version, begun.snapshot)
    if begun.snapshot and state is None:
        return snapshots.state(stream)[0]
    tail = store.parsed(begun.tail, stream) if begun.tail else []
    if (begun.snapshot_version or 0) + len(tail) != begun.version:  # its past is archived, and no snapshot spans it
        return snapshots.state(stream)[0]
    return record.fold(store.decoded(stream, tail), state)


def _reconciled(
    command: Command, record: Aggregate, stream: str, state: Any, version: int, seen: Any = None
) -> tuple[CommandData, tuple[types.JsonDict, ...]]:
    """Step 5: the command as it applies to the state of now, and what was merged to get there."""
    if seen is None:
        if command.base_version is None or command.base_version == version:
            return command.data, ()
        if not 0 <= command.base_version <= version:
            raise errors.InvalidCommand(fields={"base_version": f"This record is at version {version}."})
    try:
        return reconcile.reconcile(command, record, stream, state, version, seen)
    except errors.Conflict as conflict:
        if conflict.conflict_id is None:  # else it was filed before, and its first answer stands
            demand_reason(command, record, conflict.base, conflict.mine, created=conflict.base_version == 0)
        raise


def _demand_reason(command: Command, record: Aggregate, state: Any, decided: Sequence[Event], version: int) -> None:
    if record.reasons and decided and _lacks_reason(command):
        after = record.dump(record.fold(decided, state))
        demand_reason(command, record, record.dump(state), after, created=version == 0)


def demand_reason(
    command: Command, record: Aggregate, before: types.JsonDict, after: types.JsonDict, *, created: bool = False
) -> None:
    """Raises `ReasonRequired` where the change from one dumped state to the other needs a reason and has none.

    The system itself needs none; everybody else does, by whatever way in.
    """
    reasons = record.reasons
    if reasons and _lacks_reason(command) and reasons.needed(command.key, before, after, created=created):
        raise errors.ReasonRequired(reasons.message)


def _lacks_reason(command: Command) -> bool:
    acting = context.current()
    return acting.actor != context.SYSTEM and not (command.reason or acting.reason or "").strip()


def _numbered(stream: str, version: int, events: Iterable[Event], now: datetime) -> list[NewEvent]:
    return [
        NewEvent(stream=stream, version=number, data=event, event_id=types.new_id(), recorded_at=now)
        for number, event in enumerate(events, start=version + 1)
    ]


Placed = dict[tuple[str, int], int]  # (stream, version) -> position


def _appended(new: Sequence[NewEvent], before: dict[str, int]) -> Callable[[], Placed]:
    """Step 8: store the events. Where they went is known, and those who listen are told, after the commit."""
    if not new:
        return dict
    by_stream: dict[str, list[NewEvent]] = {}
    for event in new:
        by_stream.setdefault(event.stream, []).append(event)
    appends = [
        store.Append(
            stream=stream,
            events=[event.data for event in events],
            expected=before.get(stream, store.NO_STREAM),
            event_ids=[event.event_id for event in events],
        )
        for stream, events in by_stream.items()
    ]
    placed = _Placing(store.append_later(appends))
    store.once_committed(_tell, new, placed)
    return placed


def _appended_by_reason(works: Sequence[_Work], before: dict[str, int]) -> Callable[[], Placed]:
    """Step 8 for a set: an append carries one reason, so neighbours with the same one travel together."""
    versions, placed = dict(before), []
    for reason, group in groupby((work for work in works if work.new), key=lambda work: work.command.reason):
        new = [event for work in group for event in work.new]
        with context.acting(reason=reason or context.current().reason):
            placed.append(_appended(new, versions))
        versions |= {event.stream: event.version for event in new}
    return lambda: {where: position for part in placed for where, position in part().items()}


class _Placing:
    """Where events went, worked out once."""

    def __init__(self, appended: Callable[[], list[store.Appended]]) -> None:
        self._appended, self._placed = appended, Placed()

    def __call__(self) -> Placed:
        self._placed = self._placed or _placed(self._appended())
        return self._placed


def _placed(appended: Sequence[store.Appended]) -> Placed:
    placed: Placed = {}
    for stream in appended:
        first = stream.version - len(stream.positions) + 1
        placed |= {(stream.stream, first + offset): position for offset, position in enumerate(stream.positions)}
    return placed


def _tell(new: Sequence[NewEvent], placed: Callable[[], Placed]) -> None:
    signals.events_recorded.send_robust(sender=None, events=list(new), position=max(placed().values()))


class _Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is remembered under a command's id. Positions are not: they are in the log, by stream and version."""

    id: uuid.UUID
    status: Status
    version: int
    events: tuple[tuple[str, int], ...] = ()
    merged: tuple[types.JsonDict, ...] = ()


class _Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `events_command`: the answer, the command's keyed fingerprint, and whose personal data it held."""

    stream: str
    subject: str | None
    fingerprint: str
    answer: _Answer


def _answer(command: Command, version: int, new: Sequence[NewEvent], notes: tuple[types.JsonDict, ...]) -> _Answer:
    return _Answer(
        id=command.id,
        status="unchanged" if not new else "merged" if notes else "applied",
        version=new[-1].version if new else version,
        events=tuple((event.type, event.version) for event in new),
        merged=notes if new else (),
    )


def _result(command: Command, stream: str, answer: _Answer, placed: Placed) -> Result:
    refs = tuple(EventRef(name, version, placed[stream, version]) for name, version in answer.events)
    return Result(
        id=command.id,
        status=answer.status,
        stream=stream,
        version=answer.version,
        position=refs[-1].position if refs else None,
        events=refs,
        merged=answer.merged,
    )


def fingerprint(command: Command) -> bytes:
    """What makes two commands the same one: everything but who sends it and why."""
    content = (command.type, command.key, command.base_version, command.data)
    try:
        return hashlib.sha256(msgspec.json.encode(content, order="deterministic")).digest()
    except UnicodeEncodeError:
        strict_json.check(msgspec.to_builtins(content))  # says what is wrong
        raise


def _remembered(command: Command, stream: str, subject: str | None, answer: _Answer) -> _Remembered:
    """The row to remember. Its fingerprint is keyed, so that nobody can confirm a guess of the command's data."""
    keyed = master_keys.digest(fingerprint(command)).hex()
    return _Remembered(stream=stream, subject=subject, fingerprint=keyed, answer=answer)


def _remember(answers: Sequence[_Remembered]) -> None:
    """Step 9: the answers under their ids, written once; the primary key is the last gate against a twin."""
    if len(answers) == 1:
        (one,) = answers
        shown = store.encoded(one.answer)
        store.execute(REMEMBER, (one.answer.id, one.stream, one.subject, bytes.fromhex(one.fingerprint), shown))
    elif answers:
        store.execute(REMEMBER_MANY, (store.encoded(answers),))


def _is_same(command: Command, known: bytes) -> bool:
    """Is this the command of a remembered fingerprint? One whose master key is gone is believed by its id."""
    print_ = fingerprint(command)
    if len(known) == PLAIN:
        return hmac.compare_digest(known, print_)
    return master_keys.is_digest_of(known, print_) is not False


POSITIONS = "select version, position from events_event where stream = %s and version = any(%s)"


def _recalled(command: Command, stream: str, known: bytes | None, result: str) -> Result:
    """The first answer to a command that was carried out before."""
    if known is None or not _is_same(command, bytes(known)):
        raise errors.IdempotencyKeyReused(f"The id {command.id} was already used for a different command.")
    answer = msgspec.convert(strict_json.stored(result), _Answer)
    versions = [version for _, version in answer.events]
    placed = {(stream, v): position for v, position in store.query(POSITIONS, (stream, versions))} if versions else {}
    if len(placed) < len(versions):  # archived since
        placed = {
            (stream, e.version): e.position for e in store.read_stream(stream, versions[0] - 1, upto=versions[-1])
        }
    return msgspec.structs.replace(_result(command, stream, answer, placed), status="duplicate")


# -- fingerprints of earlier releases --------------------------------------------------------------------------------

PLAIN: Final = 32  # bytes of a fingerprint that is not keyed

UNKEYED = "select id, fingerprint from events_command where octet_length(fingerprint) = 32 limit %s"

KEY = """
update events_command c set fingerprint = n.fingerprint, result = c.result - 'fingerprint' - 'merged'
  from unnest(%s::uuid[], %s::bytea[]) n(id, fingerprint)
 where c.id = n.id and octet_length(c.fingerprint) = 32
"""


def key_fingerprints(limit: int) -> int:
    """Key at most so many fingerprints that an earlier release stored as plain hashes, in the caller's transaction, and
    drop the notes of merges in their answers; returns how many there were. They recall their commands as before.
    """
    found = store.query(UNKEYED, (limit,))
    if found:
        keyed = [master_keys.digest(bytes(plain)) for _, plain in found]
        store.execute(KEY, ([row[0] for row in found], keyed))
    return len(found)


# -- trying again ---------------------------------------------------------------------------------------------------


def _with_retries(once: Callable[[], Callable[[], T]]) -> T:
    """Run `once` in a transaction, again when it lost a race that a fresh look can settle, and then what it returned.
    Inside somebody else's transaction there is no fresh look, so there it is tried once.
    """
    nested = connection.in_atomic_block
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with pipeline.transaction():
                finish = once()
            return finish()
        except (psycopg.Error, DatabaseError, errors.WrongExpectedVersion, errors.StaleKeys) as error:
            if nested or attempt == ATTEMPTS or not _temporary(error):
                raise
    raise AssertionError("unreachable")


def _temporary(error: Exception) -> bool:
    if isinstance(error, errors.WrongExpectedVersion | errors.StaleKeys):
        return True
    cause = error if isinstance(error, psycopg.Error) else error.__cause__
    if isinstance(cause, psycopg.errors.UniqueViolation):
        # A twin was first with the answer, or with the row of a record that both create: recall, or find it there.
        return (cause.diag.constraint_name or "").endswith("_pkey")
    return isinstance(cause, psycopg.errors.SerializationFailure | psycopg.errors.DeadlockDetected)
