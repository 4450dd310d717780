"""Reads a page as plain values, for the API: no model instance, one round trip for rows, counts and time limit.

The queries are those of `reading` and `orders`; here they are compiled once (`statements`) and run by the pipeline.
A sort by another table and a list of living and deleted rows read keys first, then the rows of the keys.
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
    """The columns to read: of the list's own table, and of other tables by the name they get."""

    own: tuple[str, ...]
    foreign: tuple[tuple[str, ForeignColumn], ...] = ()

    @classmethod
    def of(cls, own: Sequence[str], foreign: Mapping[str, ForeignColumn]) -> Columns:
        return cls(tuple(own), tuple(foreign.items()))

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.own, *(name for name, _ in self.foreign))


class Reader:
    """Reads up to `size` rows of one question as dictionaries; the first `read` also counts all rows when `counts`."""

    def __init__(self, question: Question, order: Order, columns: Columns, size: int, *, counts: bool) -> None:
        self.values: list[Any] = []
        self.question, self.shape = _lifted(question, self.values)
        self.order, self.columns, self.size = order, columns, size
        self.counts = counts
        self.counted: tuple[int, bool] | None = None
        model: Any = question.base.model
        self.key: tuple[Hashable, ...] = (model, order, self.shape, columns, size)

    def read(self, start: Start) -> Found:
        """The rows after the start, in reading order; only their keys where the rows are read by key."""
        slots = self._slots(start)
        values = [*self.values, *(start.key or ())]
        if self.order.sort.through is None and len(self.question.states) == 1:
            read = _selected(self.order, self.columns)
            rows = self._runs(slots, start, values, read)
            count = len(self.order.columns) + 1
            return Found([row[:count] for row in rows], _dictionaries(self.columns, read, rows))
        if self.order.sort.through is not None:
            return Found(self._runs(slots, start, values, None))
        merged = statements.once(
            (*self.key, "merged", _kind(start)),
            lambda: reading.merged(self.question, self.order, slots, self.size),
        )
        return Found(self._fetch(merged, values))

    def total(self, _found: Found) -> tuple[int, bool]:
        """The number of all rows, and whether it is exact."""
        assert self.counted is not None, "not asked to count"
        return self.counted

    def _runs(self, slots: Start, start: Start, values: list[Any], read: tuple[str, ...] | None) -> list[Any]:
        """Rows of one run after another; with another table's sort (`read` is None) their keys."""
        rows: list[Any] = []
        for number, run in enumerate(orders.runs(self.order, start)):
            if len(rows) < self.size:
                key = (*self.key, number, _kind(start))
                found = statements.once(key, partial(self._of_run, slots, number, read))
                more = self._fetch(found, values)
                rows += more if read else [orders.key_of(run, row) for row in more]
        return rows[: self.size]

    def _of_run(self, slots: Start, number: int, read: tuple[str, ...] | None) -> Statement | None:
        run = orders.runs(self.order, slots)[number]
        if read is None:
            assert self.order.sort.through is not None
            keys = orders.keys_through(self.question.rows, self.order, run, self.order.sort.through)
            return statements.compiled(keys[: self.size])
        rows = orders.window(self.question.rows, self.order, run)
        return statements.compiled(_with_foreign(rows, self.order, self.columns).values_list(*read)[: self.size])

    def _slots(self, start: Start) -> Start:
        """The start with slots instead of its values; None stays, because it decides where the page begins."""
        if start.key is None:
            return start
        first = len(self.values)
        key = tuple(None if value is None else Slot(first + n) for n, value in enumerate(start.key))
        return Start(key, start.backward)

    # -- statements ---------------------------------------------------------------------------------------------------

    def _fetch(self, statement: Statement | None, values: Sequence[Any]) -> list[Any]:
        """The rows of a statement; counts them all in the same round trip when that is still to be done."""
        batch = [] if statement is None else [statement]
        if counting := self.counts and self.counted is None:
            batch += self._counting()
        found = fetch([each.bound(values) for each in batch])
        rows = [] if statement is None else statement.converted(found[0])
        if counting:
            self.counted = self._settled([result[0][0] for result in found[1 if statement else 0 :]], values)
        return rows

    def _counting(self) -> list[Statement]:
        """The planner's estimate and, unless the list is unfiltered, the count up to the cap."""
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
    """The rows of each statement, in one round trip. Raises `TookTooLong`."""
    return timeouts.rows_within(settings.LIST_STATEMENT_SECONDS, batch) if batch else []


def rows_of(model: type[Model], order: Order, columns: Columns, keys: Sequence[Any]) -> list[dict[str, Any]]:
    """The rows of these primary keys, in their order; one that was removed meanwhile is left out."""
    if not keys:
        return []
    read = tuple(dict.fromkeys(columns.names))

    def build() -> Statement | None:
        rows = _with_foreign(model._default_manager.order_by().filter(pk=RawSQL("key.pk", ())), order, columns)
        found = statements.compiled(rows.values_list(*read))
        kind = order.pk_field.db_type(connection=connection)
        return found and Statement(
            f"select row.* from unnest(%s::{kind}[]) with ordinality as key (pk, place)"  # noqa: S608
            f" cross join lateral ({found.sql}) as row order by key.place",
            (Slot(0), *found.parameters),
            found.conversions,
        )

    statement = statements.once((model, "rows", columns), build)
    assert statement is not None
    array = arrays.Uuids(keys) if order.pk_field.get_internal_type() == "UUIDField" else list(keys)
    (rows,) = fetch([statement.bound([array])])
    return _dictionaries(columns, read, statement.converted(rows))


def _lifted(question: Question, values: list[Any]) -> tuple[Question, Shape]:
    states = [statements.lift(state, values) for state in question.states]
    filters, shape = statements.lift(question.filters, values)
    return Question(question.base, tuple(state for state, _ in states), filters), (
        tuple(shape for _, shape in states),
        shape,
    )


def _kind(start: Start) -> Hashable:
    """What a statement depends on, of the start."""
    return start.backward, None if start.key is None else tuple(value is None for value in start.key)


def _selected(order: Order, columns: Columns) -> tuple[str, ...]:
    """The columns of a row: first those of its key."""
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
