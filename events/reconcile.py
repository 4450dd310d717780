"""A command decided against an older version of its record, carried over to the version of now."""

from __future__ import annotations

import functools
from typing import Any

import msgspec

from events import conflicts, errors, extension, snapshots, types
from events.aggregate import Aggregate, Decision
from events.conflicts import FieldConflict, values
from events.types import Command, CommandData


def reconcile(
    command: Command, record: Aggregate, stream: str, state: Any, version: int, seen: Any = None
) -> tuple[CommandData, tuple[types.JsonDict, ...]]:
    """Merge what the command wants at its `base_version` with what happened since.

    The base is rebuilt from the store, never taken from the client; with `seen` it is that state: what an editor
    without a network saw, a version of the store and their own edits since. "mine" is the base as the command alone
    would have left it, so what the domain normalises is compared normalised. Returns the command for the state of now
    and notes on what came from whom. Raises `Conflict` when both sides changed the same thing, or when it is no edit of
    fields (a deletion, say) and the record moved: then a person looks again.
    """
    for recall in extension.recalls:
        recall(command)
    base_state, base_version = (
        snapshots.state(stream, command.base_version) if seen is None else (seen, command.base_version or 0)
    )
    base, theirs = record.dump(base_state), record.dump(state)
    if seen is not None and values.same(base, theirs):
        return command.data, ()
    mine = record.dump(alone(command, record, base_state))
    if not edits_fields(command.data, record):
        moved = sorted(name for name in theirs.keys() | base.keys() if theirs.get(name) != base.get(name))
        if moved:
            raise _conflict(stream, base_version, version, base, theirs, mine, moved)
        return command.data, ()
    merged = conflicts.merge(base, theirs, mine, record.policies, record.groups, record.checks)
    if merged.conflicts:
        fields = sorted({conflict.path for conflict in merged.conflicts})
        raise _conflict(stream, base_version, version, base, theirs, mine, fields, merged.conflicts)
    needed = required(type(command.data))
    if gone := sorted(needed - merged.values.keys()):  # they removed what I left as it was but cannot leave out
        raise _conflict(stream, base_version, version, base, theirs, mine, gone)
    wanted = {
        name: merged.values[name] for name in command.data.__struct_fields__ if name in merged.changed.keys() | needed
    }
    data = msgspec.convert(wanted, type(command.data))
    return data, tuple(note.to_dict() for note in merged.notes)


@functools.cache
def required(data: type[CommandData]) -> frozenset[str]:
    return frozenset(field.name for field in msgspec.structs.fields(data) if field.required)


def alone(command: Command, record: Aggregate, base_state: Any) -> Any:
    """The state as the command alone would have left it."""
    at = Decision(key=command.key, now=types.EPOCH_START)
    return record.fold(record.decide(command.data, base_state, at), base_state)


def edits_fields(data: CommandData, record: Aggregate) -> bool:
    """Is every field of the command a field of the record? Then two of them can meet field by field."""
    return bool(data.__struct_fields__) and set(data.__struct_fields__) <= set(record.state.__struct_fields__)


def _conflict(
    stream: str,
    base_version: int,
    version: int,
    base: types.JsonDict,
    theirs: types.JsonDict,
    mine: types.JsonDict,
    fields: list[str],
    found: tuple[FieldConflict, ...] = (),
) -> errors.Conflict:
    told = [conflict.to_dict() for conflict in found]
    return errors.Conflict(
        stream=stream,
        base_version=base_version,
        version=version,
        base=base,
        theirs=theirs,
        mine=mine,
        fields=fields,
        conflicts=told,
    )
