"""Reads a page for the API as plain values: no model instances, one round trip with count and time limit.

The queries are those of `reading` and `order`; here they are compiled once (`statements`) and run as a pipeline.
A sort by another table, or a list of living and deleted rows, first finds keys and then joins their rows to them.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import Model, QuerySet, Subquery, Value
from django.db.models.expressions import OuterRef, RawSQL
from django.db.models.functions import Coalesce

from backoffice.listing import order as orders
from backoffice.listing import reading, statements, totals
from backoffice.listing.order import Order, Start
from backoffice.listing.reading import Found, Question
from backoffice.listing.spec import ForeignColumn
from backoffice.listing.statements import Shape, Slot, Statement
from events.db import arrays, timeouts


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns to read: those of the list's own table, and (name in the result, column) of other tables."""

    own: tuple[str, ...]
    foreign: tuple[tuple[str, ForeignColumn], ...] = ()

    @classmethod
    def of(cls, own: Sequence[str], foreign: Mapping[str, ForeignColumn]) -> Columns:
        return cls(tuple(own), tuple(foreign.items()))

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.own, *(name for name, _ in self.foreign))


class Reader:
    """Reads up to `size` rows of one question as dictionaries; with `counts`, the first `read` also counts all rows."""

    def __init__(self, question: Question, order: Order, columns: Columns, size: int, *, counts: bool) -> None:
        self.values: list[Any] = []
        self.question, self.shape = _lifted(question, self.values)
        self.order, self.columns, self.size = order, columns, size
        self.counts = counts
        self.counted: tuple[int, bool] | None = None
        model: Any = question.base.model
        is_direct = order.sort.through is None and len(question.states) == 1
        keyed = (*order.columns, order.pk)
        self.read_columns = (
            _selected(order, columns) if is_direct else (*(f"key {name}" for name in keyed), *columns.names)
        )
        self.key: tuple[Hashable, ...] = (model, order, self.shape, columns, size)

    def read(self, start: Start) -> Found:
        """Returns the rows after the start, in reading order."""
        values = [*self.values, *(start.key or ())]
        count = len(self.order.columns) + 1
        if self.order.sort.through is None and len(self.question.states) > 1:
            key = (*self.key, "merged", _kind(start))
            rows = self._fetch(statements.once(key, partial(self._merged, start)), values)
        else:
            rows = self._runs(start, values)
        return Found([row[:count] for row in rows], _dictionaries(self.columns, self.read_columns, rows))

    def total(self, _found: Found) -> tuple[int, bool]:
        """Returns the number of all rows, and whether it is exact."""
        assert self.counted is not None, "not asked to count"
        return self.counted

    def _runs(self, start: Start, values: list[Any]) -> list[Any]:
        """Returns up to `size` rows: those of one run after another."""
        rows: list[Any] = []
        for number, run in enumerate(orders.runs(self.order, start)):
            if len(rows) < self.size:
                key = (*self.key, number, _kind(start))
                more = self._fetch(statements.once(key, partial(self._of_run, start, number)), values)
                rows += more if self.order.sort.through is None else [orders.key_of(run, row) for row in more]
        return rows[: self.size]

    def _of_run(self, start: Start, number: int) -> Statement | None:
        run = orders.runs(self.order, self._slots(start))[number]
        through = self.order.sort.through
        if through is not None:
            keys = orders.keys_through(self.question.rows, self.order, run, through)[: self.size]
            names = ["pk"] if run.is_empty else ["v0", "pk"]
            direction = "desc" if run.descending else "asc"
            order_by = ", ".join(f"{name} {direction}" for name in names)
            return self._with_rows(statements.compiled(keys), names, order_by)
        rows = _with_foreign(orders.window(self.question.rows, self.order, run), self.order, self.columns)
        return statements.compiled(rows.values_list(*self.read_columns)[: self.size])

    def _merged(self, start: Start) -> Statement | None:
        keys = reading.merged(self.question, self.order, self._slots(start), self.size)
        return self._with_rows(keys, reading.names(self.order), reading.order_by(self.order, start))

    def _with_rows(self, keys: Statement | None, names: Sequence[str], order_by: str) -> Statement | None:
        """Returns a statement that joins the rows to the keys; None without keys."""
        if keys is None:
            return None
        row = _row(self.question.base.model, self.order, self.columns)
        sql = (
            f"select page_key.*, row.* from ({keys.sql}) as page_key ({', '.join(names)})"  # noqa: S608
            f" cross join lateral ({row.sql}) as row order by {order_by}"
        )
        conversions = tuple((number + len(names), convert) for number, convert in row.conversions)
        return Statement(sql, (*keys.parameters, *row.parameters), conversions)

    def _slots(self, start: Start) -> Start:
        """Returns the start with slots instead of values; None stays, because the SQL depends on it."""
        if start.key is None:
            return start
        first = len(self.values)
        key = tuple(None if value is None else Slot(first + n) for n, value in enumerate(start.key))
        return Start(key, start.backward)

    # -- statements ---------------------------------------------------------------------------------------------------

    def _fetch(self, statement: Statement | None, values: Sequence[Any]) -> list[Any]:
        """Returns the rows of a statement; counts all rows in the same round trip unless that was done before."""
        batch = [] if statement is None else [statement]
        if counting := self.counts and self.counted is None:
            batch += self._counting()
        found = fetch([each.bound(values) for each in batch])
        rows = [] if statement is None else statement.converted(found[0])
        if counting:
            self.counted = self._settled([result[0][0] for result in found[1 if statement else 0 :]], values)
        return rows

    def _counting(self) -> list[Statement]:
        """Returns the statements of the planner's estimate and, for a filtered list, of the count up to the cap."""
        keys = self._keys()
        if keys is None:
            return []
        estimate = keys.within(totals.ESTIMATE)
        return [estimate] if self.question.is_unfiltered else [estimate, keys.within(totals.COUNT)]

    def _keys(self) -> Statement | None:
        key = (self.question.base.model, self.shape, "keys")
        return statements.once(key, lambda: statements.compiled(totals.keys(self.question.rows)))

    def _settled(self, results: list[Any], values: Sequence[Any]) -> tuple[int, bool]:
        if not results:
            return 0, True
        planned = totals.planned(results[0])
        if len(results) == 1:
            if planned > totals.SURELY_LONG:
                return planned, False
            keys = self._keys()
            assert keys is not None
            results += fetch([keys.within(totals.COUNT).bound(values)])[0][0]
        return totals.settled(results[1], planned)


def fetch(batch: Sequence[tuple[str, Sequence[Any]]]) -> list[list[Any]]:
    """Returns the rows of each statement, in one round trip. Raises `TookTooLong`."""
    return timeouts.rows_within(settings.LIST_STATEMENT_SECONDS, batch) if batch else []


def rows_of(model: type[Model], order: Order, columns: Columns, keys: Sequence[Any]) -> list[dict[str, Any]]:
    """Returns the rows of these primary keys, in this order, without those that were removed since."""
    if not keys:
        return []

    def build() -> Statement:
        row = _row(model, order, columns)
        kind = order.pk_field.db_type(connection=connection)
        return Statement(
            f"select row.* from unnest(%s::{kind}[]) with ordinality as page_key (pk, place)"  # noqa: S608
            f" cross join lateral ({row.sql}) as row order by page_key.place",
            (Slot(0), *row.parameters),
            row.conversions,
        )

    statement = statements.once((model, "rows", columns), build)
    assert statement is not None
    array = arrays.Uuids(keys) if order.pk_field.get_internal_type() == "UUIDField" else list(keys)
    (rows,) = fetch([statement.bound([array])])
    return _dictionaries(columns, columns.names, statement.converted(rows))


def _row(model: type[Model], order: Order, columns: Columns) -> Statement:
    """Returns the statement for the row of the key `page_key.pk`."""
    rows = model._default_manager.order_by().filter(pk=RawSQL("page_key.pk", ()))
    found = statements.compiled(_with_foreign(rows, order, columns).values_list(*columns.names))
    assert found is not None
    return found


def _lifted(question: Question, values: list[Any]) -> tuple[Question, Shape]:
    states = [statements.lift(state, values) for state in question.states]
    filters, shape = statements.lift(question.filters, values)
    return Question(question.base, tuple(state for state, _ in states), filters), (
        tuple(shape for _, shape in states),
        shape,
    )


def _kind(start: Start) -> Hashable:
    """Returns the properties of the start on which the SQL depends: its direction, and which values are None."""
    return start.backward, None if start.key is None else tuple(value is None for value in start.key)


def _selected(order: Order, columns: Columns) -> tuple[str, ...]:
    """Returns the columns of a row, those of its key first."""
    return tuple(dict.fromkeys((*order.columns, order.pk, *columns.names)))


def _with_foreign(rows: QuerySet[Any], order: Order, columns: Columns) -> QuerySet[Any]:
    added: dict[str, Any] = {}
    for name, column in columns.foreign:
        others = column.through.model._default_manager.order_by().filter(**{column.through.key: OuterRef(order.pk)})
        value = Subquery(others.values(column.name)[:1])
        added[name] = value if column.default is None else Coalesce(value, Value(column.default))
    annotated: QuerySet[Any] = rows.annotate(**added)
    return annotated


def _dictionaries(columns: Columns, read: tuple[str, ...], rows: Sequence[Any]) -> list[dict[str, Any]]:
    names = columns.names
    if len(names) == 1:
        return [{names[0]: row[read.index(names[0])]} for row in rows]
    chosen = itemgetter(*(read.index(name) for name in names))
    return [dict(zip(names, chosen(row), strict=True)) for row in rows]
