"""Sequences: which items moved, how two orders merge, and diff3 by lines. Pure functions over lists of strings.

Ties are broken as in the browser's implementation, so both give the same result.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Final

# How often the regions between matching lines are divided. Each round costs one pass over the text; three or four are
# enough for text written by people. Without a limit, adversarial text would need a pass for every line.
MAX_ROUNDS: Final = 32

# -- increasing subsequences ------------------------------------------------------------------------------------------


def _longest_increasing(numbers: Sequence[int]) -> list[int]:
    """Indices of one longest strictly increasing subsequence (patience sorting; the same choice every time)."""
    tails: list[int] = []  # smallest last number of a subsequence of each length
    ends: list[int] = []  # and its index
    previous: list[int] = []
    for index, number in enumerate(numbers):
        pile = bisect_left(tails, number)
        previous.append(ends[pile - 1] if pile else -1)
        if pile == len(tails):
            tails.append(number)
            ends.append(index)
        else:
            tails[pile], ends[pile] = number, index
    found: list[int] = []
    index = ends[-1] if ends else -1
    while index >= 0:
        found.append(index)
        index = previous[index]
    return found[::-1]


def moved(before: Sequence[str], after: Sequence[str]) -> list[str]:
    """The fewest items that have to move to get from one order to the other, in the new order."""
    in_before, in_after = set(before), set(after)
    old, new = [item for item in before if item in in_after], [item for item in after if item in in_before]
    if old == new:
        return []
    start, end = 0, len(new)  # nothing moved outside of these
    while old[start] == new[start]:
        start += 1
    while old[end - 1] == new[end - 1]:
        end -= 1
    position = {item: index for index, item in enumerate(old[start:end])}
    common = new[start:end]
    stayed = {common[index] for index in _longest_increasing([position[item] for item in common])}
    return [item for item in common if item not in stayed]


# -- three-way order --------------------------------------------------------------------------------------------------


def merge_order(
    base: Sequence[str],
    theirs: Sequence[str],
    mine: Sequence[str],
    kept: Collection[str],
    preferred: Sequence[str] | None = None,
) -> tuple[list[str], list[str]]:
    """Merge two orders of the items in `kept`; returns the order and the items whose moves contradict.

    1. Items in all three versions: each pair is ordered as the side that reordered it has it (two sides that both
       reordered a pair agree). So every change of "before" and "after" is kept, unless these form a cycle: then the
       items of the cycle contradict, and are ordered as in `preferred` (theirs, if not given).
    2. Other items (inserted, or deleted on one side and kept): after the item they follow in their own version, or
       before the one they precede where the other side moved the former. At one anchor theirs come first, then mine.
    """
    in_theirs = set(theirs)
    shared = {item for item in base if item in kept and item in in_theirs}.intersection(mine)
    their_order = [item for item in theirs if item in shared]
    my_order = [item for item in mine if item in shared]
    base_order = [item for item in base if item in shared]
    contested: list[str] = []
    if my_order in (their_order, base_order):
        order = their_order
    elif their_order == base_order:
        order = my_order
    else:
        order, contested = _merge_pairs(base_order, their_order, my_order, preferred or their_order)
    they_moved, i_moved = set(moved(base_order, their_order)), set(moved(base_order, my_order))
    order = _insert(
        order,
        _anchors(theirs, kept, shared, i_moved),
        _anchors(mine, set(kept) - in_theirs, shared, they_moved),
    )
    both_moved = they_moved & i_moved
    return order, [item for item in contested if item in both_moved] or contested


def _merge_pairs(
    base: Sequence[str], theirs: Sequence[str], mine: Sequence[str], preferred: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Merge the orders of the same items pair by pair, in O(n log n).

    A pair is ordered as both sides have it, else as the side that reordered it: the majority of theirs, mine and the
    reverse of the base. Such decisions form a tournament. Its strongly connected components (cycles) follow from

    1  a path through all items in which each precedes the next: every cycle is a contiguous part of it
    2  for each item the first index on the path that it also precedes: where that is an earlier one, a cycle reaches
       back to it

    Items of a cycle are ordered as in `preferred`; those it does not name follow, in the order of theirs.
    """
    ranks = [{item: rank for rank, item in enumerate(order)} for order in (theirs, mine, base[::-1])]
    path = _sorted_by_pairs(theirs, *ranks)
    reaches = _reaches(path, *ranks)
    preferred_rank = {item: rank for rank, item in enumerate(preferred)}
    their_rank = ranks[0]
    order: list[str] = []
    contested: list[str] = []
    cycles: list[list[str]] = []
    end = len(path)
    first = end  # the first index that any later item precedes
    for index in range(len(path) - 1, -1, -1):
        first = min(first, reaches[path[index]])
        if first >= index:
            cycles.append(list(path[index:end]))
            end = first = index
    for cycle in reversed(cycles):
        cycle.sort(key=lambda item: (preferred_rank.get(item, len(preferred_rank)), their_rank[item]))
        order += cycle
        contested += cycle if len(cycle) > 1 else []
    return order, contested


Ranks = Mapping[str, int]


def _sorted_by_pairs(items: Sequence[str], a: Ranks, b: Ranks, c: Ranks) -> list[str]:
    """Merge sort in which x precedes y if it does so in two of three orders.

    That relation is not transitive, so `sorted` cannot be used: here any two adjacent items of the result were compared
    or were adjacent before.
    """
    runs = [[item] for item in items]
    while len(runs) > 1:
        pairs = [(runs[i], runs[i + 1] if i + 1 < len(runs) else []) for i in range(0, len(runs), 2)]
        runs = [_merged_runs(left, right, a, b, c) for left, right in pairs]
    return runs[0] if runs else []


def _merged_runs(left: Sequence[str], right: Sequence[str], a: Ranks, b: Ranks, c: Ranks) -> list[str]:
    merged: list[str] = []
    i = j = 0
    while i < len(left) and j < len(right):
        x, y = left[i], right[j]
        if (a[x] < a[y]) + (b[x] < b[y]) + (c[x] < c[y]) >= 2:
            merged.append(x)
            i += 1
        else:
            merged.append(y)
            j += 1
    return [*merged, *left[i:], *right[j:]]


def _reaches(path: Sequence[str], a: Ranks, b: Ranks, c: Ranks) -> dict[str, int]:
    """For each item, the first index on the path of an item that it precedes in two of three orders."""
    first = dict.fromkeys(path, len(path))
    on_path = {item: index for index, item in enumerate(path)}
    for one, other in ((a, b), (a, c), (b, c)):
        # From last to first of one order; the Fenwick tree has the least path index behind each rank of the other.
        tree = [len(path)] * (len(path) + 1)
        for item in sorted(path, key=one.__getitem__, reverse=True):
            index = len(path) - other[item]
            at, least = index - 1, first[item]
            while at > 0:
                least = min(least, tree[at])
                at -= at & -at
            first[item] = least
            while index <= len(path):
                tree[index] = min(tree[index], on_path[item])
                index += index & -index
    return first


Anchor = tuple[str | None, bool]
"""An insertion point: after this item (True) or before it; None is the beginning or the end."""


def _anchors(
    side: Sequence[str], kept: Collection[str], shared: Collection[str], moved_there: Collection[str]
) -> dict[Anchor, list[str]]:
    """The items that only one side has, by insertion point."""
    found: dict[Anchor, list[str]] = {}
    run: list[str] = []
    last: str | None = None
    for item in (*side, None):
        if item is None or item in shared:
            if run:
                follow = last not in moved_there or item in moved_there
                found.setdefault((last, True) if follow else (item, False), []).extend(run)
            last, run = item, []
        elif item in kept:
            run.append(item)
    return found


def _insert(order: Sequence[str], theirs: dict[Anchor, list[str]], mine: dict[Anchor, list[str]]) -> list[str]:
    if not theirs and not mine:
        return list(order)
    anchors = {item for item, _ in (*theirs, *mine)}
    result = [*theirs.get((None, True), ()), *mine.get((None, True), ())]
    for item in order:
        if item not in anchors:
            result.append(item)
            continue
        result += [*theirs.get((item, False), ()), *mine.get((item, False), ()), item]
        result += [*theirs.get((item, True), ()), *mine.get((item, True), ())]
    return [*result, *theirs.get((None, False), ()), *mine.get((None, False), ())]


# -- text by lines ----------------------------------------------------------------------------------------------------


def split_lines(text: str) -> list[str]:
    """Lines of a text; CRLF counts as LF, because browsers send CRLF."""
    return text.replace("\r\n", "\n").split("\n")


def matches(a: Sequence[str], b: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of unchanged lines (patience diff): common ends, then lines that occur once on both sides, in order.

    Repeated lines, such as a closing tag, never anchor a match on their own: regions become larger, so a person decides
    instead of a merge by similarity. The same applies to regions that `MAX_ROUNDS` leaves undivided.
    """
    found: list[tuple[int, int]] = []
    todo = [(0, len(a), 0, len(b), MAX_ROUNDS)]
    while todo:
        a_from, a_to, b_from, b_to, rounds = todo.pop()
        while a_from < a_to and b_from < b_to and a[a_from] == b[b_from]:
            found.append((a_from, b_from))
            a_from, b_from = a_from + 1, b_from + 1
        while a_from < a_to and b_from < b_to and a[a_to - 1] == b[b_to - 1]:
            a_to, b_to = a_to - 1, b_to - 1
            found.append((a_to, b_to))
        anchors = _anchor_lines(a, a_from, a_to, b, b_from, b_to) if rounds else ()
        if anchors:
            corners = [(a_from, b_from), *anchors, (a_to, b_to)]
            todo += [(i, k, j, n, rounds - 1) for (i, j), (k, n) in pairwise(corners)]
    return sorted(found)


def _anchor_lines(
    a: Sequence[str], a_from: int, a_to: int, b: Sequence[str], b_from: int, b_to: int
) -> list[tuple[int, int]]:
    in_a, in_b = Counter(a[a_from:a_to]), Counter(b[b_from:b_to])
    line_in_b = {b[j]: j for j in range(b_from, b_to)}
    pairs = [(i, line_in_b[a[i]]) for i in range(a_from, a_to) if in_a[a[i]] == 1 and in_b[a[i]] == 1]
    return [pairs[index] for index in _longest_increasing([j for _, j in pairs])]


Region = tuple[str, list[str], list[str], list[str]]
"""kind (same | theirs | mine | both | conflict), and its lines in base, theirs and mine."""


def regions(base: Sequence[str], theirs: Sequence[str], mine: Sequence[str]) -> list[Region]:
    """diff3: regions that neither side, one side, both equally, or both differently changed."""
    to_theirs, to_mine = dict(matches(base, theirs)), dict(matches(base, mine))
    found: list[Region] = []
    b = t = m = 0
    stable = [i for i in range(len(base)) if i in to_theirs and i in to_mine]
    for i in [*stable, len(base)]:
        j, k = to_theirs.get(i, len(theirs)), to_mine.get(i, len(mine))
        if (b, t, m) != (i, j, k):
            found.append(_region(list(base[b:i]), list(theirs[t:j]), list(mine[m:k])))
        if i < len(base):
            if not found or found[-1][0] != "same":
                unchanged: list[str] = []
                found.append(("same", unchanged, unchanged, unchanged))
            unchanged.append(base[i])
        b, t, m = i + 1, j + 1, k + 1
    return found


def _region(base: list[str], theirs: list[str], mine: list[str]) -> Region:
    if theirs == mine:
        return "both", base, theirs, mine
    if theirs == base:
        return "mine", base, theirs, mine
    return "theirs" if mine == base else "conflict", base, theirs, mine


def merge_lines(base: str, theirs: str, mine: str) -> str | None:
    """The merged text; None when both sides changed the same or adjacent lines."""
    found = regions(split_lines(base), split_lines(theirs), split_lines(mine))
    if any(kind == "conflict" for kind, *_ in found):
        return None
    return "\n".join(line for kind, _, their, my in found for line in (my if kind == "mine" else their))
