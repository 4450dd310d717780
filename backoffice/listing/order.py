"""Orders of lists, and keyset conditions that find the rows after a row by comparing several columns at once.

`(created_at, id) < (x, y)` is a range of an index, so page 10,000 costs as much as page 1, and rows with equal values
are neither repeated nor skipped. A nullable column is read in two runs, first the rows with a value and then those
without one; each run is a range of an index.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from django.db.models import BooleanField, Exists, Expression, F, Field, Func, Model, OuterRef, Q, QuerySet, Value

from backoffice import text
from backoffice.listing.refusals import UnknownSort
from backoffice.listing.spec import Sort, Spec, Through

# The values of a row that the list is sorted by, and its primary key.
Key: TypeAlias = tuple[Any, ...]


class Beyond(Func):
    """The condition `(a, b) < (x, y)`: a range of an index, unlike the same condition with OR."""

    output_field = BooleanField()

    def __init__(self, columns: Sequence[Any], values: Sequence[Any], *, less: bool) -> None:
        super().__init__(*columns, *values)
        self.less = less

    def as_sql(self, compiler: Any, _connection: Any, **_: Any) -> tuple[str, tuple[Any, ...]]:  # type: ignore[override]
        parts = [compiler.compile(part) for part in self.get_source_expressions()]
        half = len(parts) // 2
        left, right = (", ".join(sql for sql, _ in side) for side in (parts[:half], parts[half:]))
        parameters = tuple(value for _, values in parts for value in values)
        return f"({left}) {'<' if self.less else '>'} ({right})", parameters


@dataclass(frozen=True, slots=True)
class Order:
    """A requested sort of a list, and its direction.

    label    its name in URLs: `-created_at`
    columns  the columns by which rows are compared before the primary key
    """

    list: str
    sort: Sort
    descending: bool
    label: str
    columns: tuple[str, ...]
    pk: str
    pk_field: Field[Any, Any]

    def key(self, item: Model) -> Key:
        return (*(getattr(item, column) for column in self.columns), getattr(item, self.pk))


def asked(spec: Spec, label: str | None, hidden: frozenset[str]) -> Order:
    """Returns the order of this name. Raises `UnknownSort`, also for a hidden field: its order would reveal values."""
    label = label or spec.default_sort
    name = label.removeprefix("-")
    sort = spec.sorts.get(name)
    if sort is None or hidden & {name, sort.column, *sort.then}:
        raise UnknownSort(f"{spec.name} cannot be sorted by {name!r}.", "sort")
    columns = tuple(column for column in (sort.column, *sort.then) if column != spec.pk)
    return Order(spec.name, sort, label.startswith("-"), label, columns, spec.pk, spec.model._meta.pk)


@dataclass(frozen=True, slots=True)
class Start:
    """The start of a page: after the row of `key`, towards the end or, `backward`, towards the beginning."""

    key: Key | None = None
    backward: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive rows of one index: those with a value in the sorted column or, `is_empty`, those without."""

    is_empty: bool
    after: Key | None
    descending: bool


def runs(order: Order, start: Start) -> list[Run]:
    """Returns the runs to read from a start, in reading order."""
    descending = order.descending != start.backward
    if not order.sort.nullable:
        return [Run(False, start.key, descending)]
    found = [False, True]
    if start.backward:
        found.reverse()
    if start.key is not None and (start.key[0] is None) != found[0]:
        del found[0]
    return [Run(is_empty, start.key if n == 0 else None, descending) for n, is_empty in enumerate(found)]


def window(rows: QuerySet[Any], filters: Q, order: Order, run: Run) -> QuerySet[Any]:
    """Returns the rows of one run after its start, in reading order."""
    if order.sort.nullable:
        rows = rows.filter(**{f"{order.sort.column}__isnull": run.is_empty})
        filters = within(filters, order.sort.column, is_empty=run.is_empty)
    return _after(rows.filter(filters), order, run, order.columns, order.pk)


def within(condition: Q, column: str, *, is_empty: bool) -> Q:
    """The condition among rows whose column is empty, or among those whose column is not.

    Of `last_login < x or last_login is null` one part is left, which is a range of the index; for both, PostgreSQL
    would read the index from the beginning.
    """
    found = _known(condition, column, is_empty)
    return found if isinstance(found, Q) else Q() if found else Q(pk__in=())


def _known(condition: Any, column: str, is_empty: bool) -> Any:
    """True, False, or the part of the condition that is not decided by the column being empty."""
    if not isinstance(condition, Q):
        empty = [(column, None), (f"{column}__isnull", True)]
        if condition in empty:
            return is_empty
        return not is_empty if condition == (f"{column}__isnull", False) else condition
    if condition.negated or not condition.children or condition.connector == Q.XOR:
        return condition
    holds = condition.connector == Q.AND
    parts = [_known(child, column, is_empty) for child in condition.children]
    if any(part is (not holds) for part in parts):
        return not holds
    left = [part for part in parts if part is not holds]
    return Q.create(left, condition.connector) if left else holds


def keys_through(rows: QuerySet[Any], order: Order, run: Run, through: Through) -> QuerySet[Any, Any]:
    """Returns the keys of one run after its start, in the order of the index of the other table.

    The empty run are the rows without a value in that table; its keys are primary keys only. It is sorted by the column
    nevertheless: by the key alone, the planner may merge both tables along their primary keys, from the beginning.
    """
    column, others = order.sort.column, through.model._default_manager.order_by()
    if order.sort.nullable:
        others = others.filter(**{f"{column}__isnull": run.is_empty})
    others = others.filter(Exists(rows.filter(**{order.pk: OuterRef(through.key)})))
    columns = () if run.is_empty else (column,)
    return _after(others, order, run, (column,), through.key).values_list(*columns, through.key)


def key_of(run: Run, row: Key) -> Key:
    """Returns the key in a row of `keys_through`."""
    return (None, *row) if run.is_empty else row


def _after(rows: QuerySet[Any], order: Order, run: Run, columns: Sequence[str], pk: str) -> QuerySet[Any]:
    is_text = order.sort.is_text
    terms = [*(text.sort_text(F(column)) if is_text else F(column) for column in columns), F(pk)]
    if run.after is not None:
        *values, key = (value if isinstance(value, Expression) else Value(value) for value in run.after)
        after = [*(text.SearchText(value) if is_text else value for value in values), key]
        compared = 1 if run.is_empty else len(terms)
        rows = rows.filter(Beyond(terms[-compared:], after[-compared:], less=run.descending))
    return rows.order_by(*(term.desc() if run.descending else term.asc() for term in terms))
