"""Properties of the three-way merge, and its Python interface.

The behaviour in single cases is in `merge_vectors.json`, shared with the browser.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from events import conflicts, errors
from events.conflicts import paths, rules, sequences, values
from events.conflicts.policies import Policy

FIELDS = conflicts.KeyedList(
    item_policies={"options": conflicts.OPTIONS, "help": conflicts.TEXT, "until": conflicts.INSTANT},
    groups=[conflicts.Group("min", "max")],
)
TABLE: dict[str, Policy] = {
    "settings": conflicts.OBJECT,
    "tags": conflicts.SET,
    "notes": conflicts.TEXT,
    "opens": conflicts.INSTANT,
    "fields": FIELDS,
}
GROUPS = (conflicts.Group("amount", "currency"),)
RECORD = Policy(kind="object", items=TABLE, default=conflicts.CONFLICT)


# -- records that often overlap ---------------------------------------------------------------------------------------

SCALARS = [None, True, False, 0, 1, 1.0, 2.5, "", "a", "é", "e\u0301"]
INSTANTS = ["2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00", "2026-02-01T00:00:00Z", None]
TEXTS = ["", "a\nb\nc\nd", "a\nB\nc\nd", "a\nb\nc\nD", "z\na\nb\nc\nd", "a\nb\nd", "a\nc\nb\nd"]
CHOICES: list[Any] = [
    [], ["a", "b", "c"], ["c", "a"], ["a", "d", "b", "c"], ["a", "a"], [1, 2], ["1", 1], [3, 1, 2],
    [{"value": "a", "label": "A"}, {"value": "b", "label": "B"}],
    [{"value": "b", "label": "B"}, {"value": "a", "label": "Aa"}],
    [{"value": "a", "label": "A"}], {"max": 3}, {"max": 4, "min": 1}, None,
]  # fmt: skip
PLAIN: list[Any] = [
    {}, {"x": 1}, {"x": 2, "y": None}, {"x": {"y": ["a", "b"]}}, {"x": {"y": ["b", "c"], "z": 1}}, {"y": 1, "x": {}},
    ["a"], ["b", "a"], [1, 2], None, "text",
]  # fmt: skip
PROPERTIES: dict[str, list[Any]] = {
    "label": SCALARS, "help": TEXTS, "until": INSTANTS, "options": CHOICES, "min": SCALARS, "max": SCALARS,
    "unknown": PLAIN,
}  # fmt: skip
FIELDS_OF_A_RECORD: dict[str, list[Any]] = {
    "title": SCALARS, "amount": SCALARS, "currency": SCALARS, "settings": PLAIN, "notes": TEXTS, "opens": INSTANTS,
    "tags": [[], ["a", "b", "c"], ["b", "d"], ["c", "b", "a"], ["a", "c", "e"]],
}  # fmt: skip


@st.composite
def an_item(draw: st.DrawFn, key: str) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from(sorted(PROPERTIES)), max_size=3, unique=True))
    return {"id": key, **{name: draw(st.sampled_from(PROPERTIES[name])) for name in names}}


@st.composite
def edited(draw: st.DrawFn, base: Mapping[str, Any], new: str) -> dict[str, Any]:
    """The record after a few random edits; few, so that edits of two sides often do not overlap."""
    record = copy.deepcopy(dict(base))
    for name in draw(st.lists(st.sampled_from(sorted(FIELDS_OF_A_RECORD)), max_size=2, unique=True)):
        record[name] = draw(st.sampled_from(FIELDS_OF_A_RECORD[name]))
    items = record["fields"]
    for edit in draw(st.lists(st.sampled_from(["change", "remove", "move", "insert"]), max_size=4)):
        index = draw(st.integers(0, len(items)))
        if edit == "insert":
            key = draw(st.sampled_from(new))
            if all(item["id"] != key for item in items):
                items.insert(index, draw(an_item(key)))
        elif index < len(items):
            item = items.pop(index)
            if edit == "change":
                items.insert(index, {**item, **draw(an_item(item["id"]))})
            elif edit == "move":
                items.insert(draw(st.integers(0, len(items))), item)
    return record


@st.composite
def edits(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    base = {name: draw(st.sampled_from(known)) for name, known in FIELDS_OF_A_RECORD.items()}
    base["fields"] = [draw(an_item(key)) for key in "abcde"[: draw(st.integers(0, 5))]]
    return base, draw(edited(base, "tuz")), draw(edited(base, "mnz"))


def merged(base: Mapping[str, Any], theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> conflicts.Merge:
    return conflicts.merge(base, theirs, mine, TABLE, GROUPS)


def alike(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return conflicts.diff(a, b, TABLE) == []


# -- properties -------------------------------------------------------------------------------------------------------


@given(edits())
def test_change_of_theirs_only_is_kept(sides: tuple[dict[str, Any], ...]) -> None:
    base, changed, _ = sides
    merge = merged(base, changed, base)
    assert merge.ok
    assert values.same(merge.values, changed)
    assert merge.changed == {}
    assert {note.origin for note in merge.notes} <= {"theirs"}


@given(edits())
def test_change_of_mine_only_is_applied(sides: tuple[dict[str, Any], ...]) -> None:
    base, _, changed = sides
    merge = merged(base, base, changed)
    assert merge.ok
    assert alike(merge.values, changed)
    assert {note.origin for note in merge.notes} <= {"mine"}


@given(edits())
def test_same_change_on_both_sides_is_no_conflict(sides: tuple[dict[str, Any], ...]) -> None:
    base, changed, _ = sides
    merge = merged(base, changed, copy.deepcopy(changed))
    assert merge.ok
    assert values.same(merge.values, changed)
    assert merge.changed == {}


def mirrored(conflict: conflicts.FieldConflict) -> tuple[Any, ...]:
    kind = {"deleted_here": "deleted_there", "deleted_there": "deleted_here"}.get(conflict.kind, conflict.kind)
    return _facts(conflict.path, kind, conflict.base, conflict.mine, conflict.theirs, conflict.fields)


def facts(conflict: conflicts.FieldConflict) -> tuple[Any, ...]:
    return _facts(conflict.path, conflict.kind, conflict.base, conflict.theirs, conflict.mine, conflict.fields)


def _facts(path: str, kind: str, base: Any, theirs: Any, mine: Any, fields: Iterable[str]) -> tuple[Any, ...]:
    shown = [repr(s) if s is conflicts.UNSET else json.dumps(s, sort_keys=True) for s in (base, theirs, mine)]
    return path, kind, *shown, frozenset(fields)


@given(edits())
def test_swapping_the_sides_swaps_the_conflicts(sides: tuple[dict[str, Any], ...]) -> None:
    base, a, b = sides
    one, other = merged(base, a, b), merged(base, b, a)
    assert set(map(facts, one.conflicts)) == set(map(mirrored, other.conflicts))


@given(edits())
def test_swapping_the_sides_changes_only_the_order_of_insertions(
    sides: tuple[dict[str, Any], ...],
) -> None:
    base, a, b = sides
    one, other = merged(base, a, b), merged(base, b, a)
    assume(one.ok)
    assert {change.kind for change in conflicts.diff(one.values, other.values, TABLE)} <= {"moved"}


def covered(merge: conflicts.Merge, path: str) -> bool:
    """True when there is a conflict at this path, above it, below it, or at its group."""
    steps = values.steps(path)
    for conflict in merge.conflicts:
        other = conflict.steps
        if steps[: len(other)] == other or other[: len(steps)] == steps:
            return True
        if conflict.kind == "group" and steps[: len(other)] in [(*other[:-1], name) for name in conflict.fields]:
            return True
    return False


def equal(found: Any, wanted: Any) -> bool:
    return values.same(found, wanted) or values.same(values.instant(found), values.instant(wanted))


def holds(found: Any, wanted: Any) -> bool:
    """True when the result contains everything that was added, possibly with additions of the other side."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return all(name in found and holds(found[name], value) for name, value in wanted.items())
    if isinstance(wanted, list) and isinstance(found, list):
        return all(any(holds(other, each) for other in found) for each in wanted)
    return equal(found, wanted)


def in_result(merge: conflicts.Merge, change: conflicts.Change) -> bool:
    found = paths.lookup(RECORD, merge.values, values.steps(change.path))
    combined = any(note.path == change.path and note.kind == "combined" for note in merge.notes)
    if not combined:
        return holds(found, change.after) if change.kind == "added" else equal(found, change.after)
    before, after = (
        set(side.split("\n") if isinstance(side, str) else () if side is conflicts.UNSET else side)
        for side in (change.before, change.after)
    )
    result = set(found.split("\n") if isinstance(found, str) else found)
    return after - before <= result and not (before - after) & result


def line_moved_away(change: conflicts.Change, other: dict[str, Any]) -> bool:
    """True when this side removed a line of a text that the other side moved.

    For lines, a move is a removal and an addition, so both sides removed it, and the addition is kept.
    """
    other_text = paths.lookup(RECORD, other, values.steps(change.path))
    if not all(isinstance(text, str) for text in (change.before, change.after, other_text)):
        return False
    before, after, moved = (text.split("\n") for text in (change.before, change.after, other_text))
    shared = [line for line in before if line in moved]
    return set(before) - set(after) <= set(moved) and shared != [line for line in moved if line in before]


def same_set(merge: conflicts.Merge, change: conflicts.Change) -> bool:
    """True when the result has the additions of this side in another order, because both sides filled a set."""
    if change.path != "tags":
        return False
    before, after, result = (set(value or ()) for value in (change.before, change.after, merge.values["tags"]))
    return after <= result and not (before - after) & result


@given(edits())
@example(sides=tuple({"notes": "", "fields": [], "tags": tags} for tags in ([], ["c", "b", "a"], ["a", "b", "c"])))
@example(sides=tuple({"notes": text, "fields": [], "tags": []} for text in ("a\nc\nb\nd", "a\nb\nc\nd", "a\nb\nd")))
def test_no_edit_is_lost(sides: tuple[dict[str, Any], ...]) -> None:
    base, theirs, mine = sides
    merge = merged(base, theirs, mine)
    for side, other in ((theirs, mine), (mine, theirs)):
        for change in conflicts.diff(base, side, TABLE):
            found = change.kind == "moved" or covered(merge, change.path) or in_result(merge, change)
            assert found or line_moved_away(change, other) or same_set(merge, change), change


@given(edits())
def test_merging_the_result_again_changes_nothing(sides: tuple[dict[str, Any], ...]) -> None:
    base, theirs, mine = sides
    first = merged(base, theirs, mine)
    assume(first.ok)
    again = merged(base, first.values, mine)
    assert again.ok
    assert again.changed == {}
    assert values.same(again.values, first.values)


@given(edits())
def test_merge_is_deterministic_and_leaves_its_inputs_unchanged(sides: tuple[dict[str, Any], ...]) -> None:
    before = copy.deepcopy(sides)
    assert merged(*sides).to_dict() == merged(*copy.deepcopy(sides)).to_dict()
    assert sides == before


@given(edits(), st.randoms(use_true_random=False))
def test_every_conflict_can_be_resolved_either_way(sides: tuple[dict[str, Any], ...], random: Any) -> None:
    merge = merged(*sides)
    result = conflicts.resolve(merge, {c.path: random.choice(["theirs", "mine"]) for c in merge.conflicts})
    assert [item["id"] for item in result["fields"]] == list(dict.fromkeys(item["id"] for item in result["fields"]))
    all_theirs = conflicts.resolve(merge, {c.path: "theirs" for c in merge.conflicts})
    assert values.same(all_theirs, merge.values)


@given(st.permutations("abcdef"), st.permutations("abcdef"))
def test_reordered_pairs_stay_reordered_unless_contested(theirs: list[str], mine: list[str]) -> None:
    base = list("abcdef")
    order, _ = sequences.merge_order(base, theirs, mine, set(base))
    mirror, _ = sequences.merge_order(base, mine, theirs, set(base))
    assert sorted(order) == base
    contested = order != mirror
    for x in base:
        for y in base:
            if x < y and not contested:
                inverted = theirs.index(y) < theirs.index(x) or mine.index(y) < mine.index(x)
                assert (order.index(y) < order.index(x)) == inverted


@given(st.permutations("abcdef"), st.permutations("abcdef"))
def test_orders_contradict_exactly_when_reordered_pairs_form_a_cycle(theirs: list[str], mine: list[str]) -> None:
    base = list("abcdef")

    def precedes(x: str, y: str) -> bool:
        if (theirs.index(x) < theirs.index(y)) == (mine.index(x) < mine.index(y)):
            return theirs.index(x) < theirs.index(y)
        return not base.index(x) < base.index(y)

    cycle = any(
        precedes(x, y) and precedes(y, z) and precedes(z, x)
        for x in base for y in base for z in base if len({x, y, z}) == 3
    )  # fmt: skip
    assert bool(sequences.merge_order(base, theirs, mine, set(base))[1]) == cycle


@given(st.lists(st.sampled_from("abcd")), st.lists(st.sampled_from("abcd")), st.lists(st.sampled_from("abcd")))
def test_text_regions_add_up_to_the_three_texts(base: list[str], theirs: list[str], mine: list[str]) -> None:
    found = sequences.regions(base, theirs, mine)
    for index, text in enumerate((base, theirs, mine), start=1):
        assert [line for region in found for line in region[index]] == text


@given(st.text("ab.[]\\", min_size=1), st.text("ab.[]\\"), st.text("ab.[]\\"))
def test_path_is_parsed_as_it_was_written(name: str, item: str, inner: str) -> None:
    path = values.at_name(values.at_item(values.at_name("", name), item), inner)
    assert values.steps(path) == (name, item, inner)


# -- the Python interface ---------------------------------------------------------------------------------------------


def test_unset_field_of_mine_counts_as_unchanged() -> None:
    merge = conflicts.merge({"a": 1}, {"a": 2}, {"a": conflicts.UNSET}, {})
    assert merge.ok
    assert merge.values == {"a": 2}


def test_missing_sides_stay_missing_in_json() -> None:
    merge = conflicts.merge({}, {"a": None}, {"a": 1}, {})
    (conflict,) = msgspec.json.decode(msgspec.json.encode(merge.to_dict()))["conflicts"]
    assert conflict == {"path": "a", "kind": "both_changed", "theirs": None, "mine": 1}
    assert msgspec.json.decode(msgspec.json.encode(merge.conflicts))[0]["theirs"] is None


def test_choices_may_be_given_by_steps() -> None:
    base, theirs, mine = ({"fields": [{"id": "q", "label": label}]} for label in "abc")
    merge = merged(base, theirs, mine)
    assert merge.conflicts[0].steps == ("fields", "q", "label")
    assert conflicts.resolve(merge, {("fields", "q", "label"): "mine"}) == mine


def test_domain_may_check_the_merged_record_with_its_own_function() -> None:
    def together(record: Mapping[str, Any]) -> Iterable[conflicts.FieldConflict]:
        if record["min"] > record["max"]:
            yield conflicts.FieldConflict(path="max", kind="check", code="range")

    merge = conflicts.merge({"min": 1, "max": 9}, {"min": 5, "max": 9}, {"max": 3}, {}, checks=[together])
    (conflict,) = merge.conflicts
    assert (conflict.code, conflict.base, conflict.theirs, conflict.mine) == ("range", 9, 9, 3)
    assert conflicts.resolve(merge, {"max": {"value": 6}}) == {"min": 5, "max": 6}
    with pytest.raises(errors.InvalidCommand) as caught:
        conflicts.resolve(merge, {"max": "mine"})
    assert list(caught.value.fields) == ["max"]


def test_list_with_a_duplicate_id_is_rejected_by_name() -> None:
    with pytest.raises(errors.InvalidCommand) as caught:
        merged({"fields": []}, {"fields": []}, {"fields": [{"id": "a"}, {"id": "a"}]})
    assert caught.value.fields == {"fields": "The id 'a' is there twice."}


@pytest.mark.parametrize(
    "policy",
    [
        conflicts.CONFLICT, conflicts.INSTANT, conflicts.LAST_WRITE, conflicts.COUNTER, conflicts.SET, conflicts.TEXT,
        conflicts.JSON, conflicts.OBJECT, conflicts.OPTIONS, conflicts.SERVER_ONLY, FIELDS,
        conflicts.StateMachine({"draft": ["live"]}),
        conflicts.KeyedList(id="key", ordered=False, unique="name", default=conflicts.LAST_WRITE),
    ],
    ids=lambda policy: policy.kind,
)  # fmt: skip
def test_policies_survive_a_round_trip_through_json(policy: Policy) -> None:
    sent = json.loads(json.dumps(conflicts.policies_to_json({"field": policy})))
    assert conflicts.policies_to_json(conflicts.policies_from_json(sent)) == sent
    received = conflicts.policies_from_json(sent)["field"]
    assert msgspec.json.encode(received) == msgspec.json.encode(policy)


@pytest.mark.parametrize("bad", ["lww", {"kind": "conflict", "compare": "fuzzy"}, {"kind": "set", "order": True}])
def test_unknown_policy_is_rejected(bad: Any) -> None:
    with pytest.raises(ValueError, match="unknown"):
        conflicts.policies_from_json({"field": bad})


@pytest.mark.parametrize(
    "rule", [conflicts.Unique("fields", "name"), conflicts.References("fields", "if"), conflicts.Acyclic("fields")]
)
def test_rule_survives_a_round_trip_through_json(rule: Any) -> None:
    assert rules.from_json(json.loads(json.dumps(rules.to_json(rule)))) == rule
