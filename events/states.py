"""Loads the states that commands are decided on, and says which of them deserve a snapshot.

A state is the newest usable snapshot and the events after it, which the caller's statement (`events_begin`) or
`LOAD_MANY` reads together. Where that is not enough, because events are archived or a snapshot does not fit this
release, it is folded by `snapshots.state`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from events import aggregate, decoding, errors, snapshots, store, types
from events.db import arrays
from events.types import Command


class State(msgspec.Struct, frozen=True):
    """The state of a stream at a version, to decide on.

    covered       version of the snapshot it was loaded from; 0: none
    has_gaps      it lacks events that cannot be read
    from_archive  events of it were read from an archive file
    """

    value: Any
    version: int
    covered: int = 0
    has_gaps: bool = False
    from_archive: bool = False


class Stored(msgspec.Struct, frozen=True):
    """The stored parts of a state: the stream's version, its newest snapshot, and the events after it as JSON."""

    version: int
    snapshot_version: int | None = None
    snapshot: str | None = None
    tail: str | None = None


def load(commands: Mapping[str, Command], stored: Mapping[str, Stored]) -> dict[str, State]:
    """The states that the commands for these streams are decided on; keys are read with one or two statements."""
    found = [
        snapshots.Found(_record(stream), stream, one.snapshot_version, one.snapshot)
        for stream, one in stored.items()
        if one.snapshot_version is not None and one.snapshot is not None
    ]
    decoded = dict(zip((one.stream for one in found), snapshots.decode_all(found), strict=True))
    tails = decoding.Tails({stream: one.tail for stream, one in stored.items()})
    return {stream: _state(commands[stream], stream, one, decoded.get(stream), tails) for stream, one in stored.items()}


def _record(stream: str) -> aggregate.Aggregate:
    return aggregate.of_category(types.category_of(stream))


def _state(command: Command, stream: str, stored: Stored, state: Any, tails: decoding.Tails) -> State:
    try:
        return _folded(stream, stored, state, tails)
    except (errors.UnreadableEvent, errors.Undecryptable):
        if not _accepts_gaps(command):
            raise
        return State(snapshots.folded(stream).state, stored.version, has_gaps=True)


def _accepts_gaps(command: Command) -> bool:
    """True for a command that is decided despite gaps: data that cannot be read or decrypted can still be erased."""
    return types.command_type_of(type(command.data)).despite_gaps


def _folded(stream: str, stored: Stored, state: Any, tails: decoding.Tails) -> State:
    """The state from snapshot and tail; folded from the beginning where the snapshot does not fit this release."""
    if stored.version == 0:
        return State(_record(stream).initial(), 0)
    if stored.snapshot is not None and state is None:
        return State(snapshots.state(stream)[0], stored.version)
    covered = stored.snapshot_version or 0
    if covered + len(tails.rows(stream)) != stored.version:  # earlier events are archived, and no snapshot covers them
        return State(snapshots.state(stream)[0], stored.version, from_archive=True)
    return State(_record(stream).fold(tails.events(stream), state), stored.version, covered)


# Returns for many streams the columns that `events_begin` returns for one.
LOAD_MANY = """
select w.stream, n.version, n.state::text, e.tail
  from unnest(%s, %s) w(stream, state_version)
  left join lateral (
    select version, state from events_snapshot n
     where n.stream = w.stream collate "C" and n.state_version = w.state_version
     order by version desc limit 1) n on true
  left join lateral (
    select json_agg(json_build_array(type, schema_version, data, event_id) order by version)::text as tail
      from events_event e where e.stream = w.stream collate "C" and e.version > coalesce(n.version, 0)) e on true
"""


def load_many(wanted: Iterable[tuple[str, Command]], versions: Mapping[str, int]) -> dict[str, State]:
    """The states of the existing streams among those of commands; `versions` are those of the locked streams.

    A state with gaps is returned only where all commands for the stream accept gaps.
    """
    commands: dict[str, Command] = {}
    for stream, command in wanted:
        if stream in versions and (stream not in commands or not _accepts_gaps(command)):
            commands[stream] = command
    if not commands:
        return {}
    names = sorted(commands)
    shapes = arrays.Numbers(_record(name).state_version for name in names)
    rows = store.query(LOAD_MANY, (arrays.Texts(names), shapes))
    return load(commands, {stream: Stored(versions[stream], *stored) for stream, *stored in rows})


def due(states: Mapping[str, State]) -> list[snapshots.Taken]:
    """The snapshots to take of streams that have changed to these states."""
    taken = []
    for stream, state in states.items():
        record = _record(stream)
        is_due = snapshots.due(record, state.covered, state.version, from_archive=state.from_archive)
        if is_due and not state.has_gaps:
            taken.append(snapshots.Taken(record, stream, state.version, state.value))
    return taken
