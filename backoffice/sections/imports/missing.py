"""Decides which cells mean "no answer": blank ones, and markers such as NA if the file uses them consistently. Pure.

* In a column whose other cells are all numbers or all dates, a marker is missing; but with blanks and a scale of few
  numbers it is one more choice ("1 … 5, N/A").
* In any other column it is missing when the file writes it in at least two columns and none of those has a blank cell
  as well: then it replaces the blank. Otherwise a person chose or typed it, and it stays an answer.
* "NA" among two-letter codes is Namibia. "No answer", "None" and "Unknown" are always answers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from backoffice.sections.imports import dates, numbers
from backoffice.sections.imports.headers import Column

MARKERS = frozenset(
    ("NA", "N/A", "n/a", "#N/A", "<NA>", "N.A.", "n.a.", "NaN", "nan", "NULL", "null", "-", "--", "–", "—", "#NULL!")
)
_SCALE = 11
_CODE = re.compile(r"[A-Z]{2}")


def mark(columns: Sequence[Column], delimiter: str) -> Counter[str]:
    """Sets each column's `missing` and leaves only answers in `values`; returns the count of each marker."""
    used = {marker: [c for c in columns if marker in c.values] for marker in MARKERS}
    consistent = {
        marker for marker, where in used.items() if len(where) > 1 and not any("" in column.values for column in where)
    }
    counted: Counter[str] = Counter()
    for column in columns:
        here = {cell for cell in column.values if cell in MARKERS}
        gone = _missing(column, here, consistent, delimiter) if here else set()
        for marker in gone:
            counted[marker] += column.values[marker]
        column.missing = frozenset(gone | {""})
        column.values = Counter({cell: n for cell, n in column.values.items() if cell not in column.missing})
    return counted


def _missing(column: Column, here: set[str], consistent: set[str], delimiter: str) -> set[str]:
    rest = [cell for cell in column.values if cell and cell not in here]
    if rest and (numbers.study(rest, delimiter) or dates.all_dates(rest)):
        scale = "" in column.values and len(rest) <= _SCALE
        return here & consistent if scale else here
    gone = here & consistent
    if len(rest) > 1 and all(_CODE.fullmatch(cell) for cell in rest):
        gone.discard("NA")
    return gone
