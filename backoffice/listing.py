"""Lists, a page at a time: filters, search, sorting, and a signed cursor instead of a page number.

A page is found by comparing whole rows, `(created_at, id) < (x, y)`, so that page 10,000 costs what page 1 costs, ties
do not repeat or vanish, and a record that arrives meanwhile moves nothing. Each kind of record declares what its list
can be asked; a name that is not declared is an error that says which. The admin and the API both read here.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from django.core import signing
from django.db.models import BooleanField, F, Func, Model, Q, QuerySet, TextField, Value
from django.db.models.functions import Upper
from django.utils.dateparse import parse_date, parse_datetime

from backoffice import values
from backoffice.text import Composed
from events import errors

LIMIT: Final = 25
MAX_LIMIT: Final = 100
MAX_SEARCH: Final = 200
COUNT_CAP: Final = 10_000

# -- what a list refuses --------------------------------------------------------------------------------------------


class PageError(errors.EventsError):
    """The list cannot be asked that. `parameter` names the part of the question that is wrong."""

    code = "invalid_query"
    status = 400

    def __init__(self, message: str, parameter: str) -> None:
        super().__init__(message)
        self.parameter = parameter


class UnknownSort(PageError):
    """The list cannot be sorted by that."""

    code = "unknown_sort"


class UnknownFilter(PageError):
    """The list has no such filter."""

    code = "unknown_filter"


class InvalidFilter(PageError):
    """The filter does not take that value."""

    code = "invalid_filter"


class InvalidCursor(PageError):
    """The cursor was altered, or belongs to another list or order."""

    code = "invalid_cursor"


# -- what a list can be asked ---------------------------------------------------------------------------------------

Filter = Callable[[str], Q]


def choice(column: str, choices: type[Any]) -> Filter:
    def parse(value: str) -> Q:
        if value not in choices.values:
            raise ValueError(f"one of {', '.join(choices.values)}")
        return Q(**{column: value})

    return parse


def boolean(value: str) -> bool:
    known = {"true": True, "1": True, "false": False, "0": False}
    if value.lower() not in known:
        raise ValueError("true or false")
    return known[value.lower()]


def flag(column: str) -> Filter:
    return lambda value: Q(**{column: boolean(value)})


def _deleted(value: str) -> Q:
    """`false` shows living records (as does leaving it out), `true` deleted ones, `any` both."""
    return Q() if value == "any" else Q(deleted_at__isnull=not boolean(value))


def by_uuid(column: str) -> Filter:
    def parse(value: str) -> Q:
        try:
            return Q(**{column: uuid.UUID(value)})
        except ValueError:
            raise ValueError("a UUID") from None

    return parse


def _instant(lookup: str) -> Filter:
    def parse(value: str) -> Q:
        try:
            moment = parse_datetime(value)
            day = parse_date(value) if moment is None else None
        except ValueError:
            moment = day = None
        if day is not None:
            moment = datetime(day.year, day.month, day.day, tzinfo=UTC)
        if moment is None:
            raise ValueError("a date or an instant such as 2026-01-31T12:00:00Z")
        return Q(**{lookup: moment if moment.tzinfo else moment.replace(tzinfo=UTC)})

    return parse


@dataclass(frozen=True, slots=True)
class Sort:
    """An order: a column with an index that ends in the primary key. Rows without a `nullable` value come last."""

    column: str
    nullable: bool = False
    parse: Callable[[str], Any] = str


@dataclass(frozen=True, kw_only=True, slots=True)
class Spec:
    """What one list can be asked. `search` are columns with a trigram index on their upper case."""

    name: str
    model: type[Model]
    sorts: Mapping[str, Sort]
    default_sort: str
    filters: Mapping[str, Filter] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)
    search: tuple[str, ...] = ()
    related: tuple[str, ...] = ()
    category: str = ""


CREATED: Final = Sort("created_at", parse=datetime.fromisoformat)
CREATED_FILTERS: Final[Mapping[str, Filter]] = {
    "created_after": _instant("created_at__gte"),
    "created_before": _instant("created_at__lt"),
    "deleted": _deleted,
}
LIVING: Final = {"deleted": "false"}

# name -> what the list of this kind of record can be asked. Filled from the declarations in `ready()`.
SPECS: Final[dict[str, Spec]] = {}


# -- a page ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """Some rows of a list and the way on. `total_count` is None when it was not asked for; up to 10,000 it is exact,
    beyond that the planner's estimate and `total_is_exact` is false."""

    items: list[Any]
    next_cursor: str | None
    previous_cursor: str | None
    has_next: bool
    has_previous: bool
    total_count: int | None
    total_is_exact: bool
    sort: str


@dataclass(frozen=True, slots=True)
class _Order:
    """A sort as asked for: by what, which way."""

    sort: Sort
    descending: bool
    label: str

    def key(self, item: Any) -> tuple[Any, Any]:
        return getattr(item, self.sort.column), item.pk


@dataclass(frozen=True, slots=True)
class _Cursor:
    """The row a page begins after (or, `backward`, ends before)."""

    value: Any
    pk: Any
    backward: bool


def page(
    spec: str | Spec,
    *,
    sort: str | None = None,
    cursor: str | None = None,
    limit: int = LIMIT,
    filters: Mapping[str, str] | None = None,
    search: str = "",
    hidden: frozenset[str] = frozenset(),
    queryset: QuerySet[Any] | None = None,
    count: bool = True,
) -> Page:
    """One page of a list. `hidden` fields can be neither searched nor sorted by: that would tell their values.

    Raises `PageError` naming the parameter that is wrong.
    """
    asked = SPECS[spec] if isinstance(spec, str) else spec
    order = _order(asked, sort, hidden)
    rows = matching(asked, filters=filters, search=search, hidden=hidden, queryset=queryset)
    start = _opened(asked, order, cursor) if cursor else None
    limit = max(1, min(limit, MAX_LIMIT))
    found = _window(rows, order, start, limit + 1)
    if start and start.backward and len(found) <= limit:  # back at the beginning: a whole first page, not a short one
        start, found = None, _window(rows, order, None, limit + 1)
    more, items = len(found) > limit, found[:limit]
    backward = start is not None and start.backward
    if backward:
        items.reverse()
    has_next, has_previous = (True, more) if backward else (more, start is not None)
    total, exact = total_of(rows) if count else (None, False)
    return Page(
        items=items,
        next_cursor=_sealed(asked, order, items[-1], backward=False) if has_next and items else None,
        previous_cursor=_sealed(asked, order, items[0], backward=True) if has_previous and items else None,
        has_next=has_next and bool(items),
        has_previous=has_previous and bool(items),
        total_count=total,
        total_is_exact=exact,
        sort=order.label,
    )


def matching(
    spec: str | Spec,
    *,
    filters: Mapping[str, str] | None = None,
    search: str = "",
    hidden: frozenset[str] = frozenset(),
    queryset: QuerySet[Any] | None = None,
) -> QuerySet[Any]:
    """All rows that answer to the filters and the search, in no order."""
    asked = SPECS[spec] if isinstance(spec, str) else spec
    rows = asked.model._default_manager.all() if queryset is None else queryset
    rows = rows.order_by().select_related(*asked.related) if asked.related else rows.order_by()
    for name, value in {**asked.defaults, **(filters or {})}.items():
        rows = rows.filter(_condition(asked, name, value, hidden))
    words = search.strip()
    if len(words) > MAX_SEARCH:
        raise InvalidFilter(f"A search has at most {MAX_SEARCH} characters.", "search")
    return rows.filter(_search(asked, words, hidden)) if words else rows


def _condition(spec: Spec, name: str, value: str, hidden: frozenset[str]) -> Q:
    known = spec.filters.get(name) if name not in hidden else None
    if known is None:
        raise UnknownFilter(f"{spec.name} cannot be filtered by {name!r}.", name)
    try:
        return known(value)
    except ValueError as error:
        raise InvalidFilter(f"The filter {name!r} takes {error}.", name) from None


def _search(spec: Spec, words: str, hidden: frozenset[str]) -> Q:
    """Every word somewhere in the searchable columns; a whole id finds its record."""
    try:
        return Q(pk=uuid.UUID(words)) if spec.model._meta.pk.get_internal_type() == "UUIDField" else Q(pk=words)
    except ValueError:
        pass
    columns = [name for name in spec.search if name not in hidden]
    condition = Q()
    for word in words.split()[:8]:
        any_column = Q()
        for column in columns:
            any_column |= Q(Like(Upper(Composed(column)), Upper(Value(pattern(word), output_field=TextField()))))
        condition &= any_column if columns else Q(pk__in=[])
    return condition


def pattern(word: str) -> str:
    """A word as a LIKE pattern that finds it anywhere: composed, its own wildcards made harmless."""
    escaped = values.normal_text(word).replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def _order(spec: Spec, sort: str | None, hidden: frozenset[str]) -> _Order:
    label = sort or spec.default_sort
    name = label.removeprefix("-")
    known = spec.sorts.get(name) if name not in hidden else None
    if known is None:
        raise UnknownSort(f"{spec.name} cannot be sorted by {name!r}.", "sort")
    return _Order(known, label.startswith("-"), label)


# -- rows after a row -----------------------------------------------------------------------------------------------


class Like(Func):
    """`column like pattern`, for a trigram index. PostgreSQL makes both sides upper case: Python does it otherwise."""

    template = "%(expressions)s"
    arg_joiner = " like "
    output_field = BooleanField()

    def __init__(self, column: Any, wanted: Any) -> None:
        super().__init__(column, wanted)


class Beyond(Func):
    """`(a, b) < (x, y)`: what an index can seek to. Spelled with OR it would be read from the beginning."""

    output_field = BooleanField()

    def __init__(self, columns: tuple[str, ...], values: tuple[Any, ...], *, less: bool) -> None:
        super().__init__(*(F(column) for column in columns), *(Value(value) for value in values))
        self.less = less

    def as_sql(self, compiler: Any, _connection: Any, **_: Any) -> tuple[str, tuple[Any, ...]]:  # type: ignore[override]
        parts = [compiler.compile(part) for part in self.get_source_expressions()]
        half = len(parts) // 2
        left, right = (", ".join(sql for sql, _ in side) for side in (parts[:half], parts[half:]))
        parameters = tuple(value for _, values in parts for value in values)
        return f"({left}) {'<' if self.less else '>'} ({right})", parameters


def _window(rows: QuerySet[Any], order: _Order, start: _Cursor | None, limit: int) -> list[Any]:
    """Up to `limit` rows after the cursor, in reading order (backward: towards the beginning).

    A nullable column is read as two runs, the values and then the rows without one, each a range of the index.
    """
    backward = start is not None and start.backward
    descending = order.descending != backward
    if not order.sort.nullable:
        return _run(rows, order, start, descending, limit)
    filled, empty = rows.filter(**{f"{order.sort.column}__isnull": False}), rows.filter(**{order.sort.column: None})
    runs = [(filled, False), (empty, True)]
    if backward:
        runs.reverse()
    if start is not None and (start.value is None) != runs[0][1]:
        runs = runs[1:]
    found: list[Any] = []
    for number, (run, _) in enumerate(runs):
        if len(found) < limit:
            found += _run(run, order, start if number == 0 else None, descending, limit - len(found))
    return found


def _run(rows: QuerySet[Any], order: _Order, start: _Cursor | None, descending: bool, limit: int) -> list[Any]:
    pk = rows.model._meta.pk.attname
    columns = (pk,) if order.sort.column == pk else (order.sort.column, pk)
    if start is not None:
        if start.value is None:
            rows = rows.filter(Beyond((pk,), (start.pk,), less=descending))
        else:
            rows = rows.filter(Beyond(columns, (start.value, start.pk)[-len(columns) :], less=descending))
    return list(rows.order_by(*(f"-{column}" if descending else column for column in columns))[:limit])


# -- cursors --------------------------------------------------------------------------------------------------------


def _sealed(spec: Spec, order: _Order, item: Any, *, backward: bool) -> str:
    value, pk = order.key(item)
    parts = [order.label, int(backward), _text(value), str(pk)]
    return _signer(spec).sign_object(parts, compress=False)


def _opened(spec: Spec, order: _Order, cursor: str) -> _Cursor:
    try:
        label, backward, value, pk = _signer(spec).unsign_object(cursor)
        if label != order.label:
            raise InvalidCursor("The cursor belongs to another order.", "cursor")
        parsed = None if value is None else order.sort.parse(value)
        return _Cursor(parsed, spec.model._meta.pk.to_python(pk), bool(backward))
    except (signing.BadSignature, ValueError, TypeError, json.JSONDecodeError):
        raise InvalidCursor("The cursor was altered, or belongs to another list.", "cursor") from None


def _signer(spec: Spec) -> signing.Signer:
    return signing.Signer(salt=f"backoffice.listing.{spec.name}")


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return value.isoformat() if isinstance(value, datetime) else str(value)


# -- how many -------------------------------------------------------------------------------------------------------


def total_of(rows: QuerySet[Any], cap: int = COUNT_CAP) -> tuple[int, bool]:
    """How many rows there are as (number, exact): counted up to `cap`, beyond it the planner's estimate."""
    counted = rows.order_by().values("pk")[: cap + 1].count()
    if counted <= cap:
        return counted, True
    plan = json.loads(rows.order_by().values("pk").explain(format="json"))
    return max(int(plan[0]["Plan"]["Plan Rows"]), cap + 1), False
