"""The difference between two texts, word by word, in bounded time. Pure.

1  lines: common ends and lines that occur once on both sides (patience diff, about linear)
2  words of the lines that differ: their longest common subsequence, within the budget
3  beyond the budget: words that occur once on both sides; what is between them is shown as removed and added
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, Literal, TypeAlias

from events.conflicts import sequences

Kind: TypeAlias = Literal["same", "gone", "came"]
Run: TypeAlias = tuple[Kind, str]

# Pairs of words that one page may compare: 4,096 words with as many. They are compared 64 at a time.
CELLS: Final = 1 << 24

_WORD = re.compile(r"\s+|\w+|[^\w\s]")


class Budget:
    """The number of word pairs that may still be compared, for all texts of one page together."""

    def __init__(self, cells: int = CELLS) -> None:
        self.left = cells

    def take(self, cells: int) -> bool:
        """Takes this amount, or nothing if less is left."""
        if cells > self.left:
            return False
        self.left -= cells
        return True


def compare(before: str, after: str, budget: Budget) -> list[Run]:
    """Returns runs of words that are unchanged, removed or added; empty if nothing is unchanged."""
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    runs: list[Run] = []
    for removed, added, stayed in _pieces(old, new, sequences.matches(old, new)):
        _compare_words("".join(removed), "".join(added), budget, runs)
        _add(runs, "same", "".join(stayed))
    joined = _joined(runs)
    return joined if any(kind == "same" for kind, _ in joined) else []


def _compare_words(before: str, after: str, budget: Budget, runs: list[Run]) -> None:
    if not before or not after:
        _add(runs, "gone", before)
        _add(runs, "came", after)
        return
    old, new = _WORD.findall(before), _WORD.findall(after)
    for removed, added, stayed in _pieces(old, new, _common_words(old, new, budget)):
        _add(runs, "gone", "".join(removed))
        _add(runs, "came", "".join(added))
        _add(runs, "same", "".join(stayed))


def _common_words(old: Sequence[str], new: Sequence[str], budget: Budget) -> list[tuple[int, int]]:
    if budget.take(len(old) * len(new)):
        return longest_common(old, new)
    found = sequences.matches(old, new)
    i = j = 0
    more: list[tuple[int, int]] = []
    for k, n in [*found, (len(old), len(new))]:
        if i < k and j < n and budget.take((k - i) * (n - j)):
            more += [(i + a, j + b) for a, b in longest_common(old[i:k], new[j:n])]
        i, j = k + 1, n + 1
    return sorted(found + more)


def longest_common(a: Sequence[str], b: Sequence[str]) -> list[tuple[int, int]]:
    """Returns the index pairs of one longest common subsequence.

    A row of the classical table is stored as the bits of one number: bit j is 0 where the length grows at b[j] (Hyyrö,
    2004). So a row costs a few operations on numbers of len(b) bits.
    """
    places: dict[str, int] = {}
    for j, word in enumerate(b):
        places[word] = places.get(word, 0) | 1 << j
    full = (1 << len(b)) - 1
    row = full
    rows: list[int] = []
    for word in a:
        hits = row & places.get(word, 0)
        row = (row + hits | row - hits) & full
        rows.append(row)
    found: list[tuple[int, int]] = []
    i, j = len(a) - 1, len(b) - 1
    while i >= 0 and j >= 0:
        if a[i] == b[j]:
            found.append((i, j))
            i, j = i - 1, j - 1
        elif rows[i] >> j & 1:
            j -= 1
        else:
            i -= 1
    return found[::-1]


def _pieces(
    a: Sequence[str], b: Sequence[str], pairs: Sequence[tuple[int, int]]
) -> Iterator[tuple[Sequence[str], Sequence[str], Sequence[str]]]:
    """Yields pieces: the parts that only a has, the parts that only b has, and the common part after them."""
    i = j = 0
    for k, n in [*pairs, (len(a), len(b))]:
        yield a[i:k], b[j:n], a[k : k + 1]
        i, j = k + 1, n + 1


def _add(runs: list[Run], kind: Kind, text: str) -> None:
    if text:
        runs.append((kind, text))


def _joined(runs: Sequence[Run]) -> list[Run]:
    """Joins neighbouring runs of the same kind. A space between two changes is part of the change."""
    found: list[Run] = []
    removed: list[str] = []
    added: list[str] = []
    same: list[str] = []

    def flush() -> None:
        _add(found, "gone", "".join(removed))
        _add(found, "came", "".join(added))
        removed.clear()
        added.clear()

    for (kind, text), (next_kind, _) in zip(runs, [*runs[1:], ("same", "")], strict=False):
        if kind != "same":
            _add(found, "same", "".join(same))
            same.clear()
            (removed if kind == "gone" else added).append(text)
        elif text == " " and removed and added and next_kind != "same":
            removed.append(text)
            added.append(text)
        else:
            flush()
            same.append(text)
    flush()
    _add(found, "same", "".join(same))
    return found
