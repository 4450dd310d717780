"""Statements that Django compiles once for each shape of a query; each request runs them with its own values.

Building a query with the ORM takes longer than sending it. Conditions that differ only in their values have one shape
and share one statement: `lift` replaces the values of a condition by slots, `Statement.bound` fills them in.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, TypeAlias
from uuid import UUID

from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import Expression, Q, QuerySet
from django.utils.hashable import make_hashable

MAX_STATEMENTS: Final = 1_000
PLAIN: Final = (str, int, UUID, date)
Shape: TypeAlias = Hashable


class Slot(Expression):
    """The place of a value that is known when the statement runs."""

    def __init__(self, place: int) -> None:
        super().__init__()
        self.place = place

    def as_sql(self, _compiler: Any, _connection: Any) -> tuple[str, tuple[Any, ...]]:
        return "%s", (self,)


def lift(condition: Q, values: list[Any]) -> tuple[Q, Shape]:
    """Returns the condition with slots instead of values, and its shape; appends the values to `values`.

    Booleans, None and everything that is not one plain value stay in the condition and are part of the shape, because
    the SQL and the partial index that applies depend on them.
    """
    children: list[Any] = []
    shapes: list[Shape] = []
    for child in condition.children:
        if isinstance(child, Q):
            inner, shape = lift(child, values)
            children.append(inner)
        elif isinstance(child, tuple) and isinstance(child[1], PLAIN) and not isinstance(child[1], bool):
            lookup, value = child
            values.append(value)
            shape = (lookup, type(value))
            children.append((lookup, Slot(len(values) - 1)))
        else:
            shape = make_hashable(child)
            children.append(child)
        shapes.append(shape)
    return Q.create(children, condition.connector, condition.negated), (
        condition.connector,
        condition.negated,
        tuple(shapes),
    )


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL, its parameters (values or slots), and the conversions of columns by their number."""

    sql: str
    parameters: tuple[Any, ...]
    conversions: tuple[tuple[int, Callable[[Any], Any]], ...] = ()

    def bound(self, values: Sequence[Any]) -> tuple[str, list[Any]]:
        return self.sql, [values[part.place] if isinstance(part, Slot) else part for part in self.parameters]

    def converted(self, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Returns the rows with values converted as the model's fields convert them."""
        if not self.conversions:
            return rows
        found = []
        for row in rows:
            values = list(row)
            for number, convert in self.conversions:
                values[number] = convert(values[number])
            found.append(tuple(values))
        return found

    def within(self, template: str) -> Statement:
        """Returns the template with this statement at ``{}``; the template itself has no parameters."""
        return Statement(template.format(self.sql), self.parameters, self.conversions)


def compiled(rows: QuerySet[Any, Any]) -> Statement | None:
    """Returns the statement of a query; None if Django knows that it has no rows."""
    compiler = rows.query.get_compiler(connection=connection)
    try:
        sql, parameters = compiler.as_sql()
    except EmptyResultSet:
        return None
    converters = compiler.get_converters([column[0] for column in compiler.select])
    conversions = tuple((number, _conversion(*found)) for number, found in converters.items())
    return Statement(sql, tuple(parameters), conversions)


def _conversion(converters: Sequence[Callable[..., Any]], expression: Any) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        for each in converters:
            value = each(value, expression, connection)
        return value

    return convert


_known: dict[Hashable, Statement | None] = {}


def once(key: Hashable, build: Callable[[], Statement | None]) -> Statement | None:
    """Returns the statement of this key, which is built on first use."""
    try:
        return _known[key]
    except KeyError:
        if len(_known) >= MAX_STATEMENTS:
            _known.clear()
        found = _known[key] = build()
        return found
