"""A conflict compared with the current record: the partial merge, the open choices, and the change they result in."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from backoffice.sections.conflicts import domain
from events import aggregate, conflicts, errors, reconcile, snapshots, types
from events.aggregate import Aggregate, Decision
from events.conflicts import FieldConflict
from events.types import Command, CommandData

# Path of a choice about a whole change: a deletion is applied or not.
WHOLE: Final = "*"
_CHOOSE: Final = "Choose theirs, mine or a value."


@dataclass(frozen=True, kw_only=True)
class Situation:
    """A conflict compared with the record at `version`, by default the current one.

    filed   the event that filed it, with the command and its base
    status  open, resolved or dismissed
    base    the record that the author of the change saw
    theirs  the record at `version`
    mine    the record with only the author's change
    merge   the merge of `theirs` and `mine`, with the conflicts that are left
    """

    id: uuid.UUID
    filed: domain.ConflictFiled
    status: str
    assignee: int | None
    data: CommandData
    record: Aggregate
    base: types.JsonDict
    theirs: types.JsonDict
    mine: types.JsonDict
    version: int

    @cached_property
    def is_edit(self) -> bool:
        """Returns whether the change edits fields; otherwise it is applied as a whole or not at all."""
        return reconcile.edits_fields(self.data, self.record)

    @cached_property
    def merge(self) -> conflicts.Merge:
        record = self.record
        return conflicts.merge(self.base, self.theirs, self.mine, record.policies, record.groups, record.checks)

    @cached_property
    def open_places(self) -> tuple[FieldConflict, ...]:
        """The conflicts that a person must decide."""
        if not self.is_edit:
            return (FieldConflict(path=WHOLE, kind="whole"),)
        lost = (
            FieldConflict(path=name, kind="deleted_there", base=self.base.get(name), mine=self.mine.get(name))
            for name in self.gone
        )
        return (*self.merge.conflicts, *lost)

    @cached_property
    def gone(self) -> list[str]:
        """Fields that the other side removed and that this command requires."""
        return sorted(reconcile.required(type(self.data)) - self.merge.values.keys())

    @property
    def decisions(self) -> list[tuple[str, str, Any]]:
        """The open conflicts as comparable values. Choices stay valid as long as these are equal."""
        return [(place.path, place.kind, types.to_builtins(place.to_dict())) for place in self.open_places]

    def decided(self, choices: Mapping[str, Any]) -> CommandData | None:
        """Returns the change that these choices result in, based on `version`; None if it changes nothing.

        Raises `InvalidCommand`, which names each path that has no choice, is unknown or has an invalid value.
        """
        if not self.is_edit:
            return self._whole(choices)
        lost = {name: choices.get(name) for name in self.gone}
        if missing := {name: _CHOOSE for name, choice in lost.items() if choice is None}:
            raise errors.InvalidCommand(fields=missing)
        rest: dict[str | Sequence[str], Any] = {path: choice for path, choice in choices.items() if path not in lost}
        full = conflicts.resolve(self.merge, rest)
        for name, choice in lost.items():
            if choice != "theirs":
                full[name] = choice["value"] if isinstance(choice, dict) else self.mine.get(name)
        changed = conflicts.changed_fields(self.theirs, full)
        names = set(self.data.__struct_fields__)
        if not changed.keys() & names or not set(full) >= reconcile.required(type(self.data)):
            return None
        needed = reconcile.required(type(self.data))
        wanted = {name: full[name] for name in self.data.__struct_fields__ if name in changed.keys() | needed}
        return types.decode_command(self.filed.command["type"], wanted)

    def _whole(self, choices: Mapping[str, Any]) -> CommandData | None:
        if unknown := {path: "There is no conflict here." for path in choices if path != WHOLE}:
            raise errors.InvalidCommand(fields=unknown)
        if choices.get(WHOLE) not in ("theirs", "mine"):
            raise errors.InvalidCommand(fields={WHOLE: _CHOOSE})
        return self.data if choices[WHOLE] == "mine" else None

    def previewed(self, choices: Mapping[str, Any]) -> types.JsonDict:
        """Returns the record after these choices, checked by its rules.

        Raises the errors of `decided` and of the record's `decide`.
        """
        data = self.decided(choices)
        state = snapshots.state(self.filed.stream, self.version)[0]
        if data is None:
            return self.record.dump(state)
        at = Decision(key=self.filed.command["key"], now=types.EPOCH_START)
        return self.record.dump(self.record.fold(self.record.decide(data, state, at), state))


def situation(key: uuid.UUID, version: int | None = None) -> Situation:
    """Loads a conflict and compares it with the current record, or with `version`. Raises `StreamNotFound`."""
    state, _ = snapshots.state(types.stream_name(domain.CATEGORY, key))
    found: domain.ConflictFiled | None = state.filed
    if found is None:
        raise errors.StreamNotFound("There is no such conflict.")
    record = aggregate.of_category(types.category_of(found.stream))
    data = types.decode_command(found.command["type"], found.command["data"])
    theirs, reached = snapshots.state_dict(found.stream, version)
    base, wanted = found.base, found.mine
    if not base and not wanted:  # left out because of their size, or the record did not exist
        base, wanted = _rebuilt(record, found, data)
    return Situation(
        id=key,
        filed=found,
        status=state.status,
        assignee=state.assignee,
        data=data,
        record=record,
        base=base,
        theirs=theirs,
        mine=wanted,
        version=reached,
    )


def _rebuilt(
    record: Aggregate, found: domain.ConflictFiled, data: CommandData
) -> tuple[types.JsonDict, types.JsonDict]:
    base = snapshots.state(found.stream, found.base_version)[0]
    command = Command(id=uuid.UUID(found.command["id"]), key=found.command["key"], data=data)
    return record.dump(base), record.dump(reconcile.applied_alone(command, record, base))
