"""Adapts a plan to an existing form: answers are read under the form's types instead of inferred ones. Pure.

The inferred type of a column depends on the rows of the export. A cell that does not fit the form's type is kept as
text, so that nothing is lost, and its line is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from backoffice.sections.imports import dates, infer, numbers, rows
from backoffice.sections.imports.headers import Column

Reader = Callable[[str], Any]

TEXTS = frozenset({"text", "long_text", "single_choice", "email", "url", "phone"})
_SEPARATORS = (";", "|", "\n", ",")
_TRUTHS = {"true": True, "false": False, "vrai": True, "faux": False}


def adopt(plan: rows.Plan, fields: Sequence[Mapping[str, Any]]) -> list[str]:
    """Converts the answers of single columns again if the form's field has another type; returns warnings."""
    have = {field["id"]: field for field in fields}
    warnings = []
    for made in plan.fields:
        ours = have.get(made.field["id"])
        if ours is None or ours["type"] == made.field["type"] or len(made.columns) != 1 or "rows" in made.field:
            continue
        read = _reader(ours, made.columns[0], plan.context)
        if read is not None:
            warnings += _read_anew(plan, made, ours, read)
    return warnings


def _read_anew(plan: rows.Plan, made: infer.FieldPlan, ours: Mapping[str, Any], read: Reader) -> list[str]:
    key, cells = made.field["id"], made.columns[0].cells
    unlike, values = [], {}
    for row, cell in zip(plan.rows, cells, strict=True):
        if key in row.answers:
            if cell not in values:
                values[cell] = _or_text(read, cell)
            row.answers[key], fits = values[cell]
            if not fits:
                unlike.append(row.line)
    answered = [value for value, _ in values.values()]
    options = [part for value in answered for part in (value if isinstance(value, list) else [value])]
    chosen = list(dict.fromkeys(options)) if ours["type"] in ("single_choice", "multiple_choice") else []
    made.field |= {"type": ours["type"], "options": chosen}
    if not unlike:
        return []
    return [f"“{made.field['label']}” is {ours['type']} in the form; kept as text in {rows.listed(unlike)}"]


def _or_text(read: Reader, cell: str) -> tuple[Any, bool]:
    try:
        return read(cell), True
    except (ValueError, KeyError, OverflowError):
        return cell, False


def _reader(ours: Mapping[str, Any], column: Column, context: infer.Context) -> Reader | None:
    """Returns a function from cells to values of the form's type.

    It raises `ValueError` or `KeyError` for cells of another type.
    """
    kind, cells = ours["type"], [cell for cell in column.values if cell not in column.missing]
    if kind in TEXTS:
        return str
    if kind == "boolean":
        return lambda cell: _TRUTHS[cell.lower()]
    if kind in ("integer", "number", "rating"):
        return _number(cells, context)
    if kind in ("date", "datetime"):
        return _moment(cells, context, column)
    if kind == "multiple_choice":
        return _several(ours.get("options") or (), (*_SEPARATORS, " ") if context.spaced else _SEPARATORS)
    return None


def _number(cells: Sequence[str], context: infer.Context) -> Reader:
    fit = [cell for cell in cells if numbers.study([cell], context.delimiter)]
    style = numbers.study(fit, context.delimiter)

    def read(cell: str) -> Any:
        own = style if cell in known else None
        if own is None:
            raise ValueError(cell)
        return own.value(cell)

    known = set(fit)
    return read


def _moment(cells: Sequence[str], context: infer.Context, column: Column) -> Reader:
    zone = column.zone or context.zone
    style = dates.study([cell for cell in cells if dates.all_dates([cell])], context.order, zone)

    def read(cell: str) -> Any:
        if style is None or not dates.all_dates([cell]):
            raise ValueError(cell)
        return infer.iso(style.value(cell, zone))

    return read


def _several(options: Sequence[Any], separators: Sequence[str]) -> Reader:
    """Returns a reader of several options in one cell, with the separator that gives the most known options."""
    known = set(map(str, options))

    def read(cell: str) -> list[str]:
        if cell in known:
            return [cell]
        ways = [[part.strip() for part in cell.split(mark) if part.strip()] for mark in separators]
        best = max(ways, key=lambda parts: sum(part in known for part in parts) / max(len(parts), 1))
        return best if any(part in known for part in best) else [cell]

    return read
