"""The cost of merging and comparing grows about linearly with lists and texts, with unchanged results."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events import conflicts, errors, strict_json
from events.conflicts import OPTIONS, TEXT, KeyedList, References, sequences
from tests import costs

TABLE = {"fields": KeyedList(item_policies={"options": OPTIONS, "help": TEXT}), "description": TEXT}


def slow_merge_pairs(
    base: Sequence[str], theirs: Sequence[str], mine: Sequence[str], preferred: Sequence[str]
) -> tuple[list[str], list[str]]:
    """The definition of the merge: decide each pair separately, then sort items by their number of predecessors."""

    def precedes(x: str, y: str) -> bool:
        t, m = theirs.index(x) < theirs.index(y), mine.index(x) < mine.index(y)
        return t if t == m else not base.index(x) < base.index(y)

    score = {item: sum(precedes(x, item) for x in theirs if x != item) for item in theirs}
    order: list[str] = []
    contested: list[str] = []
    cycle: list[str] = []
    total = 0
    for count, item in enumerate(sorted(theirs, key=lambda item: score[item]), start=1):
        cycle.append(item)
        total += score[item]
        if total == count * (count - 1) // 2:
            cycle.sort(key=preferred.index)
            order += cycle
            contested += cycle if len(cycle) > 1 else []
            cycle = []
    return order, contested


def with_few_moves(items: list[str], rng: random.Random) -> list[str]:
    moved = list(items)
    for _ in range(rng.randrange(4)):
        moved.insert(rng.randrange(len(moved)), moved.pop(rng.randrange(len(moved))))
    return moved


@given(st.randoms(use_true_random=False), st.integers(1, 24), st.booleans())
def test_orders_merge_like_the_pairwise_definition(rng: random.Random, size: int, calm: bool) -> None:
    base = [f"item {number}" for number in range(size)]
    theirs, mine, preferred = (
        with_few_moves(base, rng) if calm else rng.sample(base, size) for _ in ("theirs", "mine", "preferred")
    )
    for wanted in (theirs, mine, preferred):
        expected = slow_merge_pairs(base, theirs, mine, wanted)
        assert sequences._merge_pairs(base, theirs, mine, wanted) == expected


def test_cycle_items_missing_from_a_choice_follow_in_their_order() -> None:
    base, theirs, mine = list("bac"), list("abc"), list("bca")
    assert sequences._merge_pairs(base, theirs, mine, theirs)[1] == list("abc")
    assert sequences._merge_pairs(base, theirs, mine, ["c"])[0] == list("cab")


@pytest.mark.parametrize("value", ["abc", 7, [{"a": 1}], [["a"]], ["a", {}]])
def test_chosen_order_that_is_no_list_of_ids_is_rejected(value: Any) -> None:
    sides = [{"list": list(order)} for order in ("bac", "abc", "bca")]
    merge = conflicts.merge(*sides, {"list": KeyedList(id="")})
    assert [conflict.kind for conflict in merge.conflicts] == ["order"]
    with pytest.raises(errors.InvalidCommand):
        conflicts.resolve(merge, {"list": {"value": value}})
    resolved = conflicts.resolve(merge, {"list": {"value": ["c", "b", "a", 7]}})
    assert resolved == {"list": ["c", "b", "a"]}


# -- cost ----------------------------------------------------------------------------------------------------------


def shuffled_options(size: int) -> list[dict[str, Any]]:
    rng = random.Random(size)
    options = [costs.Counted(f"option {number}") for number in range(size)]
    return [
        {"fields": [{"id": "q", "type": "choice", "options": order}]}
        for order in (options, rng.sample(options, size), rng.sample(options, size))
    ]


def test_merging_shuffled_options_costs_about_n_log_n() -> None:
    def cost(size: int) -> int:
        sides = shuffled_options(size)
        return costs.operations(lambda: conflicts.merge(*sides, TABLE, (), (References("fields", "if"),)))

    costs.assert_about_linear(cost, 250)


def test_resolving_shuffled_options_costs_about_n_log_n() -> None:
    def cost(size: int) -> int:
        merge = conflicts.merge(*shuffled_options(size), TABLE)
        choices = {conflict.path: "mine" for conflict in merge.conflicts}
        return costs.operations(lambda: conflicts.resolve(merge, choices))

    costs.assert_about_linear(cost, 250)


def test_comparing_shuffled_options_costs_about_n_log_n() -> None:
    def cost(size: int) -> int:
        before, after, _ = shuffled_options(size)
        return costs.operations(lambda: conflicts.diff(before, after, TABLE))

    costs.assert_about_linear(cost, 250)


def test_reporting_broken_references_is_linear() -> None:
    def cost(size: int) -> int:
        names = [costs.Counted(f"q{number}") for number in range(size)]
        base = [{"id": name, "type": "text"} for name in ["gone", *names]]
        mine = [base[0], *({**each, "if": "gone"} for each in base[1:])]
        sides = [{"fields": fields} for fields in (base, base[1:], mine)]
        checks = (References("fields", "if"),)
        assert len(conflicts.merge(*sides, TABLE, (), checks).conflicts) >= size
        return costs.operations(lambda: conflicts.merge(*sides, TABLE, (), checks))

    costs.assert_about_linear(cost, 100)


def a_text_that_divides_line_by_line(size: int) -> tuple[str, str]:
    """A text that needs a matching round per line: each line becomes unique only after the next was matched."""
    base = [word for number in range(1, size) for word in (f"line {number}", f"line {number - 1}")]
    other = [word for number in range(1, size) for word in (f"line {number}", f"new {number}")]
    return "\n".join(base), "\n".join(other)


@pytest.mark.parametrize("kind", ["divides line by line", "all lines alike", "all lines new", "one line each"])
def test_merging_texts_costs_about_n_log_n(kind: str) -> None:
    def cost(size: int) -> int:
        base, theirs = {
            "divides line by line": a_text_that_divides_line_by_line(size),
            "all lines alike": ("a\n" * size, "a\n" * (size // 2) + "b\n" + "a\n" * (size // 2)),
            "all lines new": tuple("\n".join(f"{side} {n}" for n in range(size)) for side in "ab"),
            "one line each": ("word " * size, "other " * size),
        }[kind]
        lines = [[costs.Counted(line) for line in sequences.split_lines(text)] for text in (base, theirs, base + "\nx")]
        return costs.operations(lambda: sequences.regions(*lines))

    costs.assert_about_linear(cost, 400)


def test_finding_keys_that_occur_twice_is_linear() -> None:
    def cost(size: int) -> int:
        pairs = [(costs.Counted(f"key {number}"), None) for number in range(size)]
        pairs.append((costs.Counted("key 0"), None))

        def search() -> None:
            with pytest.raises(errors.InvalidJson):
                strict_json._unique_keys(pairs)

        return costs.operations(search)

    costs.assert_about_linear(cost, 1_000)


def test_reading_json_is_linear() -> None:
    def cost(size: int) -> int:
        text = "{" + ",".join(f'"key {n}": [{n}, "\\u0041", {{"a": [[]]}}]' for n in range(size)) + "}"
        return costs.operations(lambda: strict_json.check(strict_json.loads(text)))

    costs.assert_about_linear(cost, 1_000)
