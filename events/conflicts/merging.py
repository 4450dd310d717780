"""The three-way merge of the changes of two people since a common base.

These properties are tested, and hold for every policy whose meaning does not exclude them:
merge(b, x, b) = x; merge(b, b, x) = x; merge(b, x, x) = x (but counters add); swapping the sides swaps the conflicts;
every change of either side is in the result or in a conflict; merging the result again changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from events import errors
from events.conflicts import changes, paths, policies, rules, sequences, values
from events.conflicts.policies import Group, Policy
from events.conflicts.rules import Check
from events.conflicts.values import UNSET, Change, FieldConflict, Note


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """The inputs of a merge, kept with the result so that choices can be applied to them."""

    base: Mapping[str, Any]
    theirs: Mapping[str, Any]
    mine: Mapping[str, Any]
    record: Policy
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """The outcome of a merge.

    values     the full merged record, with theirs where there is a conflict
    changed    the fields of `values` that differ from theirs: the update to apply
    conflicts  decisions left to a person; empty = merged
    notes      which side each change came from
    """

    values: dict[str, Any]
    changed: dict[str, Any]
    conflicts: tuple[FieldConflict, ...]
    notes: tuple[Note, ...]
    inputs: Inputs = field(repr=False, compare=False)

    @property
    def ok(self) -> bool:
        return not self.conflicts

    def to_dict(self) -> dict[str, Any]:
        return {
            "values": self.values,
            "changed": self.changed,
            "conflicts": [conflict.to_dict() for conflict in self.conflicts],
            "notes": [note.to_dict() for note in self.notes],
        }


def merge(
    base: Mapping[str, Any],
    theirs: Mapping[str, Any],
    mine: Mapping[str, Any],
    table: Mapping[str, Policy],
    groups: Iterable[Group] = (),
    checks: Iterable[Check] = (),
) -> Merge:
    """Merge what `mine` changed since `base` into `theirs`.

    1. A field missing in `mine` was not changed (missing is not null).
    2. Each field merges by its policy; fields of one group merge together.
    3. The merged record must pass the checks; failures that theirs already has are ignored.

    Raises `errors.InvalidCommand` when a keyed list has a duplicate or missing id.
    """
    unique = (rules.Unique(name, policy.unique, policy.id) for name, policy in table.items() if policy.unique)
    inputs = Inputs(
        base=dict(base),
        theirs=dict(theirs),
        mine={**base, **{name: value for name, value in mine.items() if value is not UNSET}},
        record=Policy(kind="object", items=table, default=policies.CONFLICT, groups=tuple(groups)),
        checks=(*unique, *checks),
    )
    walk = Walk()
    merged = walk.run(inputs)
    walk.conflicts += failed(inputs, merged)
    return Merge(
        values=merged,
        changed=changed_fields(theirs, merged),
        conflicts=tuple(walk.conflicts),
        notes=tuple(walk.notes),
        inputs=inputs,
    )


def changed_fields(theirs: Mapping[str, Any], merged: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a merged or resolved record that differ from theirs: the update to apply."""
    return {name: value for name, value in merged.items() if not values.same(value, theirs.get(name, UNSET))}


def failed(inputs: Inputs, merged: Mapping[str, Any]) -> list[FieldConflict]:
    """The failed checks of the merged record that theirs passes, with the three versions of each value."""
    if not inputs.checks or values.same(merged, inputs.theirs):
        return []
    found = {(problem.path, problem.code): problem for check in inputs.checks for problem in check(merged)}
    if not found:
        return []
    accepted = {(problem.path, problem.code) for check in inputs.checks for problem in check(inputs.theirs)}
    indexes: paths.Indexes = {}
    return [_with_sides(inputs, problem, indexes) for where, problem in found.items() if where not in accepted]


def _with_sides(inputs: Inputs, problem: FieldConflict, indexes: paths.Indexes) -> FieldConflict:
    if not (problem.base is UNSET and problem.theirs is UNSET and problem.mine is UNSET):
        return problem
    base, theirs, mine = (
        paths.lookup(inputs.record, version, problem.steps, indexes)
        for version in (inputs.base, inputs.theirs, inputs.mine)
    )
    return msgspec.structs.replace(problem, base=base, theirs=theirs, mine=mine)


# -- the walk ---------------------------------------------------------------------------------------------------------

Choice = Mapping[str, Any]
"""A person's decision: ``{"take": "theirs" | "mine"}`` or ``{"value": …}``."""


@dataclass(slots=True)
class Walk:
    """One pass over the three versions: merges each value, and collects conflicts and notes.

    With `choices` (path -> decision) a conflict at that path is decided instead of collected.
    """

    choices: Mapping[str, Choice] = field(default_factory=dict)
    conflicts: list[FieldConflict] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    used: set[str] = field(default_factory=set)

    def run(self, inputs: Inputs) -> dict[str, Any]:
        return self.objects(inputs.record, inputs.base, inputs.theirs, inputs.mine, "")

    def value(self, policy: Policy, b: Any, t: Any, m: Any, path: str) -> Any:  # noqa: PLR0911 - one line a case
        """Merge one field: the side that changed it wins; equal changes are taken; otherwise its policy decides."""
        if policy.kind == "server_only":
            return self.server_only(policy, b, t, m, path)
        if values.same(m, b):
            return self.take(t, changes.between(policy, b, t, path), "theirs")
        shape = policies.concrete(policy, b, t, m)
        if shape.kind in ("object", "keyed_list") and UNSET not in (t, m) and not values.same(t, b):
            return self.both(shape, b, t, m, path)  # the properties inside show which side changed them
        mine = changes.between(policy, b, m, path, strict=True)
        if not mine:
            return self.take(t, changes.between(policy, b, t, path), "theirs")
        theirs = changes.between(policy, b, t, path, strict=True)
        if not theirs:
            return self.take(m, mine, "mine")
        if shape.kind != "counter" and not changes.between(policy, t, m, path):
            return self.take(t, theirs, "both")
        return self.both(shape, b, t, m, path)

    def both(self, shape: Policy, b: Any, t: Any, m: Any, path: str) -> Any:  # noqa: PLR0911 - one line a policy
        """Merge one field that both sides changed differently."""
        if shape.kind == "last_write":
            return self.note(m, path, "mine", "overwrote")
        if t is UNSET or m is UNSET:
            return self.decide(path, "deleted_here" if m is UNSET else "deleted_there", b, t, m)
        match shape.kind:
            case "counter":
                return self.note(t + (m - (0 if b is UNSET else b)), path, "both", "combined")
            case "set":
                return self.note(_sets([] if b is UNSET else b, t, m), path, "both", "combined")
            case "text" if b is not UNSET:
                return self.text(b, t, m, path)
            case "object":
                return self.objects(shape, {} if b is UNSET else b, t, m, path)
            case "keyed_list":
                return self.keyed_list(shape, [] if b is UNSET else b, t, m, path)
            case "state_machine":
                return self.state_machine(shape, b, t, m, path)
        return self.decide(path, "both_changed", b, t, m)

    # -- one policy each

    def server_only(self, policy: Policy, b: Any, t: Any, m: Any, path: str) -> Any:
        if changes.between(policy, b, m, path) and changes.between(policy, t, m, path):
            self.note(t, path, "mine", "ignored")
        return self.take(t, changes.between(policy, b, t, path), "theirs")

    def text(self, b: str, t: str, m: str, path: str) -> Any:
        merged = sequences.merge_lines(b, t, m)
        if merged is None:
            return self.decide(path, "both_changed", b, t, m)
        return self.note(merged, path, "both", "combined")

    def state_machine(self, policy: Policy, b: Any, t: Any, m: Any, path: str) -> Any:
        if isinstance(t, str) and m in policy.transitions.get(t, ()):
            return self.note(m, path, "mine", "changed")
        return self.decide(path, "illegal_transition", b, t, m)

    def objects(self, policy: Policy, b: Any, t: Any, m: Any, path: str) -> dict[str, Any]:
        grouped = {name: group for group in policy.groups for name in group}
        decided: dict[str, Any] = {}
        result: dict[str, Any] = {}
        for name in changes.names(t, m, b):
            if name in grouped:
                if name not in decided:
                    decided |= self.group(policy, grouped[name], b, t, m, path)
                value = decided[name]
            else:
                sides = b.get(name, UNSET), t.get(name, UNSET), m.get(name, UNSET)
                value = self.value(policy.of(name), *sides, values.at_name(path, name))
            if value is not UNSET:
                result[name] = value
        return result

    def group(self, policy: Policy, group: Group, b: Any, t: Any, m: Any, path: str) -> dict[str, Any]:
        """Take all fields of a group from one side, or report one conflict about all of them."""
        base, theirs, mine = ({name: side.get(name, UNSET) for name in group} for side in (b, t, m))

        def between(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
            each = ((policy.of(name), before[name], after[name], values.at_name(path, name)) for name in group)
            return [change for sides in each for change in changes.between(*sides, strict=True)]

        my_changes, their_changes = between(base, mine), between(base, theirs)
        if not my_changes:
            self.take(None, their_changes, "theirs")
            return theirs
        if not their_changes:
            self.take(None, my_changes, "mine")
            return mine
        if not between(theirs, mine):
            self.take(None, their_changes, "both")
            return theirs
        base, theirs, mine = (
            {name: value for name, value in side.items() if value is not UNSET} for side in (base, theirs, mine)
        )
        at = values.at_name(path, group.name)
        chosen = self.decide(at, "group", base, theirs, mine, tuple(group))
        if not isinstance(chosen, dict) or not set(chosen) <= set(group):
            raise errors.InvalidCommand(fields={at: f"Choose values for {', '.join(group)}."})
        return {name: chosen.get(name, UNSET) for name in group}

    def keyed_list(self, policy: Policy, b: Any, t: Any, m: Any, path: str) -> list[Any]:
        base, theirs, mine = (changes.indexed(policy, side, path) for side in (b, t, m))
        # Most items are unchanged: equal JSON texts show that without walking them.
        was, they_wrote, i_wrote = (
            {key: values.json_text(item) for key, item in side.items()} for side in (base, theirs, mine)
        )
        each = changes.item_policy(policy)
        kept: dict[str, Any] = {}
        for key in changes.names(theirs, mine, base):
            text = was.get(key)
            if text is not None and text == they_wrote.get(key) and text == i_wrote.get(key):
                kept[key] = theirs[key]
                continue
            sides = base.get(key, UNSET), theirs.get(key, UNSET), mine.get(key, UNSET)
            at = values.at_item(path, key)
            item = self.value(each, *sides, at)
            if item is not UNSET:
                kept[key] = item
                if at in self.used and list(changes.indexed(policy, [item], at)) != [key]:
                    raise errors.InvalidCommand(fields={at: "The id of an item cannot change."})
        order = self.order(policy, list(base), list(theirs), list(mine), kept, path)
        return [kept[key] for key in order]

    def order(
        self, policy: Policy, b: list[str], t: list[str], m: list[str], kept: Mapping[str, Any], path: str
    ) -> list[str]:
        if not policy.ordered:
            return [key for key in changes.names(t, m) if key in kept]
        order, contested = sequences.merge_order(b, t, m, kept)
        if contested:
            chosen = self.decide(path, "order", b, t, m, tuple(contested))
            wanted = [key for key in chosen if isinstance(key, str)] if isinstance(chosen, list | tuple) else []
            if not set(wanted).issuperset(contested):
                raise errors.InvalidCommand(fields={path: f"Choose an order of {', '.join(contested)}."})
            if chosen is not t:
                order, _ = sequences.merge_order(b, t, m, kept, preferred=wanted)
        theirs, mine = (dict.fromkeys(sequences.moved(b, side)) for side in (t, m))
        for key in changes.names(theirs, mine):
            if key in kept:
                origin = "both" if key in theirs and key in mine else "theirs" if key in theirs else "mine"
                self.note(None, values.at_item(path, key), origin, "moved")
        return order

    # -- conflicts and notes

    def decide(self, path: str, kind: str, b: Any, t: Any, m: Any, fields: tuple[str, ...] = ()) -> Any:
        """Report a conflict and return theirs; with a person's choice, return the chosen value instead."""
        choice = self.choices.get(path)
        if choice is None:
            self.conflicts.append(FieldConflict(path=path, kind=kind, base=b, theirs=t, mine=m, fields=fields))
            return t
        self.used.add(path)
        return paths.chosen(choice, t, m)

    def take(self, value: Any, made: Iterable[Change], origin: str) -> Any:
        self.notes += [Note(path=change.path, origin=origin, kind=change.kind) for change in made]
        return value

    def note(self, value: Any, path: str, origin: str, kind: str) -> Any:
        self.notes.append(Note(path=path, origin=origin, kind=kind))
        return value


def _sets(base: Sequence[Any], theirs: Sequence[Any], mine: Sequence[Any]) -> list[Any]:
    """Merge two sets: their elements without those that mine removed, then the elements that mine added."""
    known, their, my = ({values.element(item): item for item in side} for side in (base, theirs, mine))
    kept = [item for key, item in their.items() if key in my or key not in known]
    return kept + [item for key, item in my.items() if key not in known and key not in their]
