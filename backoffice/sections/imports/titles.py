"""Recognises lines above the header: a title, the date of the export, the name of the survey. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from backoffice.sections.imports import dates, numbers

_MOST = 8
_BELOW = 1_000


def count(records: Sequence[Sequence[str]]) -> int:
    """Returns the number of title lines above the header.

    A title line is narrower than the rows below it, or has one filled cell. The first line that is as wide as the rows
    and has no blank cell is the header, if it has words unlike the answers below.
    """
    filled = [[cell.strip() for cell in record] for record in records[: _BELOW + _MOST] if any(map(str.strip, record))]
    blank = len(records[: _BELOW + _MOST]) - len(filled)
    for at, record in enumerate(filled[:_MOST]):
        below = filled[at + 1 :]
        if not below:
            return 0
        width = Counter(map(len, below)).most_common(1)[0][0]
        if len(record) == width and all(record):
            found = at and _is_header(record, below, min(map(len, filled[:at])))
            return at + (_blank_before(records, at) if blank else 0) if found else 0
        if not _is_title(record, width):
            return 0
    return 0


def _blank_before(records: Sequence[Sequence[str]], at: int) -> int:
    """Counts the blank records among the first `at` filled ones."""
    filled = blank = 0
    for record in records:
        if any(map(str.strip, record)):
            if filled == at:
                break
            filled += 1
        else:
            blank += 1
    return blank


def _is_title(record: Sequence[str], width: int) -> bool:
    """Returns whether a record is a title.

    It has one filled cell, fewer cells than the table, or a few with a date or number.
    """
    filled = [cell for cell in record if cell]
    alone = len(filled) == 1 and width > 1
    return alone or len(record) < width or (len(filled) < len(record) and any(typed([cell]) for cell in filled))


def _is_header(record: Sequence[str], below: Sequence[Sequence[str]], narrowest: int) -> bool:
    """Returns whether the record has only words, unlike the answers below it.

    R writes no header above its row names, so a record that is one cell longer than the line above may be its first
    row. Then it is a header only if columns below it have numbers or dates.
    """
    if len(set(record)) < len(record) or any(typed([cell]) for cell in record):
        return False
    even = sum(1 for row in below if len(row) == len(record))
    if even < 0.9 * len(below):
        return False
    if len(record) > 2 and even > 1 and narrowest != len(record) - 1:
        return True
    columns = ([row[i] for row in below if len(row) > i and row[i]] for i in range(len(record)))
    return any(len(cells) > 1 and typed(cells) for cells in columns)


def typed(cells: Sequence[str]) -> str | None:
    """Returns ``number`` or ``date`` if every cell is one, otherwise None."""
    if numbers.study(cells, ";") or numbers.study(cells, ","):
        return "number"
    return "date" if dates.all_dates(cells) else None
