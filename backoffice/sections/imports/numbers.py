"""Numbers in exports: decimal point or comma, with or without group separators; one style per column. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal

_PLAIN = re.compile(r"-?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]\d+)?", re.ASCII)
_COMMA = re.compile(r"-?\d+(?:,\d+)?", re.ASCII)
_LEADING_ZERO = re.compile(r"-?0\d")
# group separator, decimal sign; "1,234" fits the first as thousands and `_COMMA` as decimals
_GROUPED = (
    (re.compile(r"-?\d{1,3}(?:,\d{3})*(?:\.\d+)?", re.ASCII), ",", "."),
    (re.compile(r"-?\d{1,3}(?:[ \u00a0\u202f]\d{3})*(?:,\d+)?", re.ASCII), " ", ","),
    (re.compile(r"-?\d{1,3}(?:\.\d{3})*(?:,\d+)?", re.ASCII), ".", ","),
    (re.compile(r"-?\d{1,3}(?:'\d{3})*(?:\.\d+)?", re.ASCII), "'", "."),
)
_ONE_GROUP = re.compile(r"-?[1-9]\d{0,2},\d{3}")


@dataclass(frozen=True, slots=True)
class Style:
    """The number format of a column; `whole` if no number has decimals."""

    decimal: str
    group: str
    whole: bool

    def value(self, cell: str) -> int | float:
        return int(self.plain(cell)) if self.whole else float(self.plain(cell))

    def plain(self, cell: str) -> str:
        """Returns the number with a decimal point and without group separators."""
        for mark in (" ", "\u00a0", "\u202f") if self.group == " " else (self.group,):
            cell = cell.replace(mark, "") if mark else cell
        return cell.replace(",", ".") if self.decimal == "," else cell


def study(cells: Collection[str], delimiter: str) -> Style | None:
    """Returns the one style in which all cells are numbers that a double represents exactly, or None.

    "1,234" alone is ambiguous: thousands in a comma-delimited file, decimals in others (which come from countries with
    a decimal comma), unless other cells decide.
    """
    if not cells or any(_LEADING_ZERO.match(cell) for cell in cells):
        return None  # postal codes, phone numbers, codes: not quantities
    for style in _candidates(cells, delimiter):
        if all(_exact(cell, style) for cell in cells) and not _are_versions(cells, style):
            return style
    return None


def _are_versions(cells: Collection[str], style: Style) -> bool:
    """Returns whether cells differ only in zeros at their end: 1.1 and 1.10 are versions, not one number."""
    if style.whole or not any(cell.endswith("0") for cell in cells):
        return False
    decimals = {plain for cell in cells if "." in (plain := style.plain(cell))}
    return len({plain.rstrip("0") for plain in decimals}) < len(decimals)


def _candidates(cells: Collection[str], delimiter: str) -> list[Style]:
    found = []
    if all(_PLAIN.fullmatch(cell) for cell in cells):
        found.append(Style(".", "", all(cell.lstrip("-").isdigit() for cell in cells)))
    if all(_COMMA.fullmatch(cell) for cell in cells):
        doubtful = all(_ONE_GROUP.fullmatch(cell) for cell in cells if "," in cell)
        plain_thousands = any("," not in cell and len(cell.lstrip("-")) > 3 for cell in cells)
        if not doubtful or plain_thousands or delimiter != ",":
            found.append(Style(",", "", False))
    for shape, group, decimal in _GROUPED:
        if all(shape.fullmatch(cell) for cell in cells):
            found.append(Style(decimal, group, not any(decimal in cell for cell in cells)))
    return found


def _exact(cell: str, style: Style) -> bool:
    """Returns whether a double is exact: up to 15 digits are read back as written."""
    if len(cell) <= 15 and "e" not in cell.lower():
        return True
    if len(cell) > 40:
        return False
    number = style.value(cell)
    return abs(number) < 2**53 and Decimal(style.plain(cell)) == Decimal(repr(number))
