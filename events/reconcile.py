"""Reconciles a command that was decided against an older version of its record with the current version."""

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
    """Merge the command's changes to its `base_version` with the changes made since.

    The base is rebuilt from the store, never taken from the client. Where `seen` is given, it is the base: the state
    that an offline editor saw, a version of the store with the editor's own later edits. "mine" is the base with only
    this command applied, so values that the domain normalises are compared normalised.

    Returns the command's data for the current state, and notes on the origin of merged values. Raises `Conflict` when
    both sides changed the same fields, or when the command is no edit of fields (a deletion, say) and the record
    changed: then a person decides.
    """
    for recall in extension.recalls:
        recall(command)
    base_state, base_version = (
        snapshots.state(stream, command.base_version) if seen is None else (seen, command.base_version or 0)
    )
    base, theirs = record.dump(base_state), record.dump(state)
    if seen is not None and values.same(base, theirs):
        return command.data, ()
    mine = record.dump(applied_alone(command, record, base_state))
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
    if gone := sorted(needed - merged.values.keys()):  # removed by the other side, but required in this command
        raise _conflict(stream, base_version, version, base, theirs, mine, gone)
    wanted = {
        name: merged.values[name] for name in command.data.__struct_fields__ if name in merged.changed.keys() | needed
    }
    data = msgspec.convert(wanted, type(command.data))
    return data, tuple(note.to_dict() for note in merged.notes)


@functools.cache
def required(data: type[CommandData]) -> frozenset[str]:
    return frozenset(field.name for field in msgspec.structs.fields(data) if field.required)


def applied_alone(command: Command, record: Aggregate, base_state: Any) -> Any:
    """The base state with only this command applied."""
    at = Decision(key=command.key, now=types.EPOCH_START)
    return record.fold(record.decide(command.data, base_state, at), base_state)


def edits_fields(data: CommandData, record: Aggregate) -> bool:
    """True when every field of the command is a field of the record, so edits can be merged by field."""
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
    return errors.Conflict(
        stream=stream,
        base_version=base_version,
        version=version,
        base=base,
        theirs=theirs,
        mine=mine,
        fields=fields,
        conflicts=[conflict.to_dict() for conflict in found],
    )
