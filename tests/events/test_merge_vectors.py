"""The merge engine against the vectors shared with the browser's implementation, and against real edits of forms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from events import conflicts, errors
from events.conflicts import rules, values

VECTORS: dict[str, list[dict[str, Any]]] = json.loads(
    Path(__file__).with_name("merge_vectors.json").read_text(encoding="utf-8")
)
REAL_EDITS = Path(__file__).parents[2].parent / "shared" / "data" / "forms" / "edits.json"


def vectors(section: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", [pytest.param(case, id=case["name"]) for case in VECTORS[section]])


def merged(case: dict[str, Any]) -> conflicts.Merge:
    return conflicts.merge(
        case["base"],
        case["theirs"],
        case["mine"],
        conflicts.policies_from_json(case["policies"]),
        conflicts.groups_from_json(case.get("groups", ())),
        [rules.from_json(rule) for rule in case.get("checks", ())],
    )


@vectors("merge")
def test_merge_gives_the_expected_result(case: dict[str, Any]) -> None:
    expected = case["expected"]
    if "error" in expected:
        with pytest.raises(errors.InvalidCommand) as caught:
            merged(case)
        assert sorted(caught.value.fields) == expected["error"]
        return
    merge = merged(case)
    found = [conflict.to_dict() for conflict in merge.conflicts]
    shown = [{name: each[name] for name in ("path", "kind", "code") if name in each} for each in found]
    assert shown == expected["conflicts"]
    assert values.same(merge.values, expected["values"]), merge.values
    if "notes" in expected:
        assert [note.to_dict() for note in merge.notes] == expected["notes"]
    if "changed" in expected:
        assert values.same(merge.changed, expected["changed"])
    for path, sides in expected.get("sides", {}).items():
        (conflict,) = (each for each in found if each["path"] == path)
        assert {name: conflict[name] for name in ("base", "theirs", "mine") if name in conflict} == sides


@vectors("diff")
def test_diff_gives_the_expected_changes(case: dict[str, Any]) -> None:
    found = conflicts.diff(case["before"], case["after"], conflicts.policies_from_json(case["policies"]))
    assert [change.to_dict() for change in found] == case["expected"]


@vectors("resolve")
def test_resolve_gives_the_expected_record(case: dict[str, Any]) -> None:
    expected, merge = case["expected"], merged(case)
    if "error" in expected:
        with pytest.raises(errors.InvalidCommand) as caught:
            conflicts.resolve(merge, case["choices"])
        assert sorted(caught.value.fields) == expected["error"]
        return
    assert values.same(conflicts.resolve(merge, case["choices"]), expected["values"])


# -- real edits of real forms ----------------------------------------------------------------------------------------

FIELDS = {"fields": conflicts.KeyedList(item_policies={"options": conflicts.OPTIONS})}


@pytest.fixture(scope="module")
def real_edits() -> list[dict[str, Any]]:
    if not REAL_EDITS.exists():
        pytest.skip(f"the real form edits are not at {REAL_EDITS}")
    pairs: list[dict[str, Any]] = json.loads(REAL_EDITS.read_text(encoding="utf-8"))
    assert len(pairs) == 8
    return pairs


def real_merge(pair: dict[str, Any]) -> conflicts.Merge:
    base, theirs, mine = ({"fields": pair[side]} for side in ("base", "theirs", "mine"))
    return conflicts.merge(base, theirs, mine, FIELDS)


def test_real_edits_without_overlap_merge_to_the_final_form(
    real_edits: list[dict[str, Any]],
) -> None:
    reached = [real_merge(pair) for pair in real_edits if not pair["overlaps"]]
    assert len(reached) == 4
    for merge, pair in zip(reached, (pair for pair in real_edits if not pair["overlaps"]), strict=True):
        assert merge.ok
        assert merge.values == {"fields": pair["final"]}


def test_real_edits_with_overlap_conflict_exactly_there(real_edits: list[dict[str, Any]]) -> None:
    for pair in real_edits:
        expected = {("fields", field, name) for field, names in pair["overlaps"] for name in names}
        assert {conflict.steps for conflict in real_merge(pair).conflicts} == expected
        assert all(conflict.kind == "both_changed" for conflict in real_merge(pair).conflicts)


def test_resolved_real_edit_keeps_changes_without_overlap(real_edits: list[dict[str, Any]]) -> None:
    for pair in real_edits:
        merge = real_merge(pair)
        resolved = conflicts.resolve(merge, {conflict.path: "mine" for conflict in merge.conflicts})
        overlaps = {conflict.path for conflict in merge.conflicts}
        mine = conflicts.diff({"fields": pair["base"]}, {"fields": pair["mine"]}, FIELDS)
        theirs = conflicts.diff({"fields": pair["base"]}, {"fields": pair["theirs"]}, FIELDS)
        wanted = {change.path for change in mine} | {change.path for change in theirs} - overlaps
        assert {change.path for change in conflicts.diff({"fields": pair["base"]}, resolved, FIELDS)} == wanted
