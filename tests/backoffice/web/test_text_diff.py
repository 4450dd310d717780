"""Text diffs by word: correct, readable, and of bounded cost for any two texts."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backoffice.web import diffs, text_diff
from events.conflicts import sequences
from tests import costs

TEXT = st.text(st.sampled_from("ab,. \n"), max_size=60)


@given(TEXT, TEXT, st.integers(0, 200))
def test_both_texts_can_be_read_from_the_diff(before: str, after: str, cells: int) -> None:
    runs = text_diff.compare(before, after, text_diff.Budget(cells))
    if runs:
        assert "".join(text for kind, text in runs if kind != "came") == before
        assert "".join(text for kind, text in runs if kind != "gone") == after
    assert all(one[0] != other[0] for one, other in itertools.pairwise(runs))


@given(st.lists(st.sampled_from("abc")), st.lists(st.sampled_from("abc")))
def test_longest_common_subsequence_has_maximum_length(a: list[str], b: list[str]) -> None:
    pairs = text_diff.longest_common(a, b)
    assert all(a[i] == b[j] for i, j in pairs)
    assert pairs == sorted(pairs)
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)
    lengths = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            lengths[i + 1][j + 1] = lengths[i][j] + 1 if x == y else max(lengths[i][j + 1], lengths[i + 1][j])
    assert len(pairs) == lengths[-1][-1]


def test_changed_words_are_shown_within_their_sentence() -> None:
    before = "Please tell us your name and your full address.\nThank you!"
    after = "Please tell us your first name and your postal address.\nThank you!"
    assert text_diff.compare(before, after, text_diff.Budget()) == [
        ("same", "Please tell us your"),
        ("came", " first"),
        ("same", " name and your "),
        ("gone", "full"),
        ("came", "postal"),
        ("same", " address.\nThank you!"),
    ]


def test_space_between_two_changed_words_is_part_of_the_change() -> None:
    runs = text_diff.compare("keep old words here", "keep new things here", text_diff.Budget())
    assert runs == [("same", "keep "), ("gone", "old words"), ("came", "new things"), ("same", " here")]


def test_texts_without_anything_in_common_are_whole_values() -> None:
    assert text_diff.compare("one", "other", text_diff.Budget()) == []


def test_unique_words_and_lines_match_beyond_the_budget() -> None:
    before = "alpha " + "x y " * 50 + "beta\nsecond line"
    after = "alpha " + "y z " * 70 + "beta\nsecond line"
    budget = text_diff.Budget(100)
    runs = text_diff.compare(before, after, budget)
    assert runs[0] == ("same", "alpha ")
    assert runs[-1][1].endswith("beta\nsecond line")
    assert budget.left >= 0


# -- cost ----------------------------------------------------------------------------------------------------------


def random_words(size: int, known: int, seed: int) -> str:
    rng = random.Random(seed)
    return " ".join(f"word{rng.randrange(known)}" for _ in range(size))


PAIRS: dict[str, Callable[[int], tuple[str, str]]] = {
    "one paragraph, all words new": lambda n: (random_words(n, 10**9, 1), random_words(n, 10**9, 2)),
    "one paragraph, few words in another order": lambda n: (random_words(n, 5, 1), random_words(n, 5, 2)),
    "the same word again and again": lambda n: ("a " * n, "a " * (n // 2) + "b " + "a " * (n // 2)),
    "short lines": lambda n: ("\n".join("ab"[i % 2] for i in range(n)), "\n".join("ba"[i % 3 % 2] for i in range(n))),
    "no words at all": lambda n: ("," * n, "." * n),
}


@pytest.mark.parametrize("kind", PAIRS)
def test_comparing_any_two_texts_costs_about_n_log_n(kind: str) -> None:
    def cost(size: int) -> int:
        before, after = PAIRS[kind](size)
        return costs.operations(lambda: text_diff.compare(before, after, text_diff.Budget()))

    costs.assert_about_linear(cost, 500)


@pytest.mark.parametrize("kind", PAIRS)
def test_compared_words_stay_within_the_budget(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []

    def counting(a: Any, b: Any) -> Any:
        compared.append(len(a) * len(b))
        return longest_common(a, b)

    longest_common = text_diff.longest_common
    monkeypatch.setattr(text_diff, "longest_common", counting)
    budget = text_diff.Budget(10_000)
    for size in (90, 200, 2_000):
        text_diff.compare(*PAIRS[kind](size), budget)
    assert sum(compared) <= 10_000
    assert budget.left == 10_000 - sum(compared)


def test_all_texts_of_a_page_share_one_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[text_diff.Budget] = []

    def recording(before: str, after: str, budget: text_diff.Budget) -> Any:
        used.append(budget)
        return compare(before, after, budget)

    compare = text_diff.compare
    monkeypatch.setattr(text_diff, "compare", recording)
    fields = [
        [{"id": f"q{n}", "type": "text", "label": f"{side} label " * 5} for n in range(20)] for side in ("a", "b")
    ]
    before, after = ({"title": "t", "fields": each} for each in fields)
    lines = diffs.rows("form", before, after, Admin())
    assert len(lines) == len(used) == 20
    assert len(set(map(id, used))) == 1
    assert all(line.words for line in lines)


class Admin:
    """A person who may see everything."""

    is_active = is_superuser = is_authenticated = is_staff = True
    role = "admin"


def test_labels_of_questions_are_looked_up_once() -> None:
    def cost(size: int) -> int:
        sides = [[{"id": f"q{n}", "type": "text", "label": f"{side}{n}"} for n in range(size)] for side in "ab"]
        before, after = ({"title": "t", "fields": fields} for fields in sides)
        return costs.operations(lambda: diffs.rows("form", before, after, Admin()))

    costs.assert_about_linear(cost, 50)


def test_patience_finds_unique_lines() -> None:
    assert sequences.matches(["a", "b", "c"], ["x", "b", "y"]) == [(1, 1)]
