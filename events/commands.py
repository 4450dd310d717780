"""The entry point of every write: admin, API, ingest, sync, import and the command line all dispatch here.

`dispatch` is the algorithm:

    1  context    who acts, why, and what caused it
    2  lock       the record's stream, so that no other command decides about it meanwhile
    3  recall     a command whose id is known gets its first answer; nothing is done twice
    4  load       the state: newest usable snapshot + the events after it
    5  reconcile  changed since `base_version`? Three-way merge; changes that cannot be merged are a `Conflict`
    6  decide     pure: command + state -> events; none means "unchanged". Some changes need a reason
    7  project    read tables, inside this transaction
    8  append     late: positions are drawn here, and until the commit they hold the head of the log back
    9  remember   the answer under the command's id; a twin that got this far fails here and recalls instead

All of it is one transaction of two round trips (`events.db.pipeline`): steps 2 to 4 read, 7 to 9 write and commit.
It is retried only for errors that PostgreSQL calls temporary (serialization failure, deadlock) and when another
transaction was first to create the stream or the answer.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

import msgspec

from events import aggregate as aggregates
from events import answers, context, decoding, errors, projections, reconcile, retries, snapshots, store, types
from events.aggregate import Aggregate, Decision
from events.answers import Answer, Positions, Status, StoredAnswer
from events.db import arrays
from events.types import Command, CommandData, Event, NewEvent


class EventRef(msgspec.Struct, frozen=True):
    """One stored event of a result."""

    type: str
    version: int
    position: int


class Result(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to a command.

    status    applied; merged (another change of other fields came in between); unchanged; duplicate (answered before)
    version   the stream's version afterwards; position: of the last event, None when nothing was stored
    merged    notes on the values that a merge combined
    """

    id: uuid.UUID
    status: Status
    stream: str
    version: int
    position: int | None
    events: tuple[EventRef, ...]
    merged: tuple[types.JsonDict, ...] = ()


class _Work(msgspec.Struct):
    """One command on its way through the steps.

    stored   the answer found at step 3; all later steps are skipped then
    answer   the answer to remember, None until step 6
    """

    command: Command
    stream: str
    stored: StoredAnswer | None = None
    answer: Answer | None = None
    subject: str | None = None
    new: list[NewEvent] = []


# -- one command ------------------------------------------------------------------------------------------------------


class _Begun(msgspec.Struct, frozen=True):
    """The row that `events_begin` returns; see its columns."""

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


def dispatch(command: Command, seen: Any = None) -> Result:
    """Carry out one command in one transaction; see the module's docstring for the steps.

    `seen` is the state on which the command's author decided, where no version of the store has that state: an offline
    edit that follows other offline edits.

    Raises `InvalidCommand`, `Rejected`, `StreamNotFound`, `Conflict`, `IdempotencyKeyReused`, `StoreUnavailable`; then
    nothing was written. Repeating a command that succeeded returns its first answer with status ``duplicate``.
    """
    with context.acting(reason=command.reason or context.current().reason, causation_id=command.id):  # 1
        work, appended = retries.run(_carry_out, command, seen)
        return _result(work, appended)


def _carry_out(command: Command, seen: Any) -> tuple[_Work, list[store.PendingAppend]]:
    """Steps 2 to 9 inside the transaction; positions can be read from the pending appends after the commit."""
    record = aggregates.of_command(type(command.data))
    stream = types.stream_name(record.category, command.key)
    work = _Work(command, stream)
    begun = _Begun(*store.query(BEGIN, (command.id, stream, record.state_version))[0])  # 2, 3, 4
    if begun.result is not None:
        work.stored = StoredAnswer(bytes(begun.fingerprint or b""), begun.result)
        return work, []
    state, has_gaps = _state(command, stream, begun)
    after = _decide(work, record, state, begun.version, begun.now, has_gaps=has_gaps, seen=seen)  # 5, 6
    remembered = _answers([work])  # refuses what is not JSON
    projections.project(work.new)  # 7
    appended = _append(work.new, {stream: begun.version})  # 8
    answers.remember(remembered)  # 9
    if snapshots.due(record, begun.version, begun.version + len(work.new)):
        snapshots.save(record, stream, begun.version + len(work.new), after)
    return work, appended


def recalled(command: Command) -> Result | None:
    """The first answer to a command, with status ``duplicate``; None when it was not carried out yet."""
    stored = answers.find([command.id]).get(command.id)
    return _recalled(_Work(command, _stream_of(command), stored=stored), stored) if stored else None


# -- many commands ----------------------------------------------------------------------------------------------------

LOCK_MANY = """
select stream, version from events_stream where stream = any(%s) order by stream for update
"""


def dispatch_many(commands: Sequence[Command]) -> list[Result]:
    """Carry out commands in one transaction, all or nothing, with a handful of set-based statements.

    The same steps, events and projections as `dispatch`; commands for one stream are decided in the order given. When
    one is refused, its error is raised with the attribute `command`, and nothing was written.
    """
    if not commands:
        return []
    if len({command.id for command in commands}) != len(commands):
        raise errors.InvalidCommand("Two commands share one id.", {"id": "occurs twice"})
    with context.acting(causation_id=context.current().causation_id):  # 1
        works, appended = retries.run(_carry_out_set, commands)
        positions = _positions(appended)
        return [_result_at(work, positions) for work in works]


def _carry_out_set(commands: Sequence[Command]) -> tuple[list[_Work], list[store.PendingAppend]]:
    """Steps 2 to 9 for a set, inside the transaction."""
    works = [_Work(command, _stream_of(command)) for command in commands]
    now: datetime = store.query("select now()")[0][0]
    before = dict(store.query(LOCK_MANY, (arrays.Texts({work.stream for work in works}),)))  # 2
    stored = answers.find([command.id for command in commands])  # 3
    for work in works:
        work.stored = stored.get(work.command.id)
    fresh = [work for work in works if work.stored is None]
    states, gaps = _states(fresh, before)  # 4
    repeated = {stream for stream, count in Counter(work.stream for work in fresh).items() if count > 1}
    for work in fresh:
        _decide_in_set(work, states, now, goes_on=work.stream in repeated, has_gaps=work.stream in gaps)  # 5, 6
    remembered = _answers(fresh)
    projections.project(event for work in fresh for event in work.new)  # 7, in the order given: records may depend
    appended = _append_by_reason(fresh, before)  # 8
    answers.remember(remembered)  # 9
    return works, appended


def _states(works: Sequence[_Work], before: dict[str, int]) -> tuple[dict[str, tuple[Any, int]], set[str]]:
    """Step 4 for a set: state and version of each existing stream, and the streams whose state has gaps."""
    states, gaps = {}, set()
    for work in sorted(works, key=lambda work: work.stream):
        if work.stream in before and (work.stream not in states or work.stream in gaps):
            state, has_gaps = _state(work.command, work.stream)
            states[work.stream] = (state, before[work.stream])
            gaps |= {work.stream} if has_gaps else set()
    return states, gaps


def _decide_in_set(
    work: _Work, states: dict[str, tuple[Any, int]], now: datetime, *, goes_on: bool, has_gaps: bool
) -> None:
    """Steps 5 and 6 for one of many; where the stream `goes_on`, `states` advances for the next command."""
    record = aggregates.of_command(type(work.command.data))
    state, version = states.get(work.stream) or (record.initial(), 0)
    try:
        after = _decide(work, record, state, version, now, has_gaps=has_gaps)
    except errors.EventsError as error:
        error.command = work.command  # type: ignore[attr-defined]
        raise
    if goes_on:
        states[work.stream] = (after, version + len(work.new))


# -- the steps --------------------------------------------------------------------------------------------------------


def _stream_of(command: Command) -> str:
    return types.stream_name(aggregates.of_command(type(command.data)).category, command.key)


def _state(command: Command, stream: str, begun: _Begun | None = None) -> tuple[Any, bool]:
    """Step 4: the state to decide on, from `begun` or the store, and whether it lacks events.

    Only a command that is decided despite gaps gets a state with gaps: data that cannot be read or decrypted can still
    be erased.
    """
    try:
        return snapshots.state(stream)[0] if begun is None else _loaded(stream, begun), False
    except (errors.UnreadableEvent, errors.Undecryptable):
        if not types.command_type_of(type(command.data)).despite_gaps:
            raise
        return snapshots.folded(stream).state, True


def _loaded(stream: str, begun: _Begun) -> Any:
    """The state from snapshot and tail; folded from the beginning where the snapshot does not fit this release."""
    record = aggregates.of_category(types.category_of(stream))
    if begun.version == 0:
        return record.initial()
    state = None
    if begun.snapshot and begun.snapshot_version:
        state = snapshots.decode(record, stream, begun.snapshot_version, begun.snapshot)
    if begun.snapshot and state is None:
        return snapshots.state(stream)[0]
    tail = decoding.parse_tail(begun.tail, stream) if begun.tail else []
    if (begun.snapshot_version or 0) + len(
        tail
    ) != begun.version:  # earlier events are archived, and no snapshot covers them
        return snapshots.state(stream)[0]
    return record.fold(decoding.tail_events(stream, tail), state)


def _decide(
    work: _Work,
    record: Aggregate,
    state: Any,
    version: int,
    now: datetime,
    *,
    has_gaps: bool,
    seen: Any = None,
) -> Any:
    """Steps 5 and 6: set new events, answer and its subject on `work`; returns the state after the events."""
    command = work.command
    data: CommandData = command.data
    notes: tuple[types.JsonDict, ...] = ()
    if not has_gaps:  # a state with gaps cannot be merged with
        data, notes = _reconciled(command, record, work.stream, state, version, seen)
    decided = record.decide(data, state, Decision(key=command.key, now=now, has_gaps=has_gaps))
    _demand_reason(command, record, state, decided, version)
    after = record.fold(decided, state)
    work.new = _numbered(work.stream, version, decided, now)
    work.subject = record.subject_of(work.stream, after)
    work.answer = Answer(
        id=command.id,
        status="unchanged" if not work.new else "merged" if notes else "applied",
        version=version + len(work.new),
        events=tuple((event.type, event.version) for event in work.new),
        merged=notes if work.new else (),
    )
    return after


def _reconciled(
    command: Command, record: Aggregate, stream: str, state: Any, version: int, seen: Any = None
) -> tuple[CommandData, tuple[types.JsonDict, ...]]:
    """Step 5: the command's data for the current state, and notes on what was merged."""
    if seen is None:
        if command.base_version is None or command.base_version == version:
            return command.data, ()
        if not 0 <= command.base_version <= version:
            raise errors.InvalidCommand(fields={"base_version": f"This record is at version {version}."})
    try:
        return reconcile.reconcile(command, record, stream, state, version, seen)
    except errors.Conflict as conflict:
        if conflict.conflict_id is None:  # otherwise it was filed before, and its first answer stands
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

    Every actor but the system needs one, on every entry point.
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


def _answers(works: Sequence[_Work]) -> list[answers.NewAnswer]:
    """The rows to remember. Raises `InvalidJson` before anything is written."""
    return [
        answers.prepare(work.command, work.stream, work.subject, work.answer)
        for work in works
        if work.answer is not None
    ]


def _append(new: Sequence[NewEvent], before: dict[str, int]) -> list[store.PendingAppend]:
    """Step 8: append the events, stream by stream; `before` are the versions the streams are at."""
    if not new:
        return []
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
    return [store.append_pending(appends)]


def _append_by_reason(works: Sequence[_Work], before: dict[str, int]) -> list[store.PendingAppend]:
    """Step 8 for a set: an append carries one reason, so neighbours with the same reason share an append."""
    versions, appended = dict(before), []
    for reason, group in groupby((work for work in works if work.new), key=lambda work: work.command.reason):
        new = [event for work in group for event in work.new]
        with context.acting(reason=reason or context.current().reason):
            appended += _append(new, versions)
        versions |= {event.stream: event.version for event in new}
    return appended


# -- results ----------------------------------------------------------------------------------------------------------


def _positions(appended: Iterable[store.PendingAppend]) -> Positions:
    return {place: position for append in appended for place, position in append.positions.items()}


def _result(work: _Work, appended: Iterable[store.PendingAppend]) -> Result:
    return _result_at(work, _positions(appended))


def _result_at(work: _Work, positions: Positions) -> Result:
    if work.stored is not None:
        return _recalled(work, work.stored)
    assert work.answer is not None
    return _shown(work.stream, work.answer, work.answer.status, positions)


def _recalled(work: _Work, stored: StoredAnswer) -> Result:
    """The first answer to a command that was carried out before."""
    answer = answers.recall(work.command, stored)
    return _shown(work.stream, answer, "duplicate", answers.positions(work.stream, answer))


def _shown(stream: str, answer: Answer, status: Status, positions: Positions) -> Result:
    refs = tuple(EventRef(name, version, positions[stream, version]) for name, version in answer.events)
    return Result(
        id=answer.id,
        status=status,
        stream=stream,
        version=answer.version,
        position=refs[-1].position if refs else None,
        events=refs,
        merged=answer.merged,
    )
