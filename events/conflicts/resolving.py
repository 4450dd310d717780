"""Applies a person's choices to a merge and checks the result again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from events import errors
from events.conflicts import merging, paths, values
from events.conflicts.merging import Inputs, Merge, Walk
from events.conflicts.values import FieldConflict


def resolve(merge: Merge, choices: Mapping[str | Sequence[str], Any]) -> dict[str, Any]:
    """The full record after a person's choices.

    choices  path (as text or as steps) of each conflict -> ``"theirs"``, ``"mine"`` or ``{"value": …}``. A conflict of
             order takes a list of ids as value, a group a map of its fields. A failed check is corrected at its own
             path or at one of its `also` paths, also a check that fails only because of other choices.

    1. Merge again with the choices.  2. Correct failed checks with the choices.  3. Check.
    Raises `errors.InvalidCommand` whose `fields` name each path that has no choice, is unknown or is still invalid.
    """
    decided = _normal(merge, choices)
    walk = Walk(choices=decided)
    merged = walk.run(merge.inputs)
    _refuse((conflict.path, "Choose theirs, mine or a value.") for conflict in walk.conflicts)
    used = set(walk.used)
    for problem in merging.failed(merge.inputs, merged):
        for path in (problem.path, *problem.also):
            if path in decided and path not in used:
                merged = _correct(merge.inputs, merged, path, decided[path])
                used.add(path)
    _refuse((path, "There is no conflict here.") for path in decided if path not in used)
    _refuse((problem.path, _WRONG.get(problem.code, problem.code)) for problem in merging.failed(merge.inputs, merged))
    return merged


_WRONG = {
    "duplicate": "Another item has the same value.",
    "dangling": "This refers to an item that does not exist.",
    "cycle": "These items contain each other.",
}


def _refuse(problems: Iterable[tuple[str, str]]) -> None:
    fields = dict(problems)
    if fields:
        raise errors.InvalidCommand(fields=fields)


def _normal(merge: Merge, choices: Mapping[str | Sequence[str], Any]) -> dict[str, dict[str, Any]]:
    by_steps = {conflict.steps: conflict.path for conflict in _all_paths(merge)}
    found: dict[str, dict[str, Any]] = {}
    for where, choice in choices.items():
        path = where if isinstance(where, str) else by_steps.get(tuple(where), ".".join(where))
        if choice in ("theirs", "mine"):
            found[path] = {"take": choice}
        elif isinstance(choice, Mapping) and set(choice) == {"value"}:
            found[path] = {"value": choice["value"]}
        else:
            raise errors.InvalidCommand(fields={path: 'Choose "theirs", "mine" or {"value": …}.'})
    return found


def _all_paths(merge: Merge) -> list[FieldConflict]:
    also = [FieldConflict(path=path, kind="check") for conflict in merge.conflicts for path in conflict.also]
    return [*merge.conflicts, *also]


def _correct(inputs: Inputs, merged: dict[str, Any], path: str, choice: Mapping[str, Any]) -> dict[str, Any]:
    where = values.steps(path)
    theirs, mine = (paths.lookup(inputs.record, version, where) for version in (inputs.theirs, inputs.mine))
    source = inputs.theirs if choice.get("take") == "theirs" else inputs.mine
    corrected: dict[str, Any] = paths.put(inputs.record, merged, where, paths.chosen(choice, theirs, mine), source)
    return corrected
