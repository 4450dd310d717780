"""Reads one page of a list: order, conditions, rows, total, and the cursors of the pages around it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import EmptyResultSet
from django.db.models import Q, QuerySet

from backoffice.listing import cursor as cursors
from backoffice.listing import filters as filter_kinds
from backoffice.listing import order as orders
from backoffice.listing import reading, tuples
from backoffice.listing import search as searches
from backoffice.listing.cursor import Cursor
from backoffice.listing.order import Key, Order, Start
from backoffice.listing.reading import Found, Question
from backoffice.listing.refusals import InvalidFilter, TooSlow, UnknownFilter
from backoffice.listing.spec import Spec, named
from backoffice.listing.tuples import Columns, Reader
from events import errors
from events.db import timeouts

LIMIT: Final = 25
MAX_LIMIT: Final = 100
STATE: Final = "deleted"


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """Rows of a list and the cursors of the pages around it.

    `total_count` is None when it was not requested. Up to 10,000 it is exact; beyond that it may be an estimate, then
    `total_is_exact` is false.
    """

    items: list[Any]  # model instances, or dictionaries where columns were asked for
    next_cursor: str | None
    previous_cursor: str | None
    has_next: bool
    has_previous: bool
    total_count: int | None
    total_is_exact: bool
    sort: str


def page(  # noqa: PLR0913 - named, and all but the list have defaults
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
    columns: Columns | None = None,
) -> Page:
    """Returns one page of a list. Searching or sorting by `hidden` fields is rejected: it would reveal their values.

    With `columns`, items are dictionaries of these columns; only they and the sort's columns are read.

    1 the order, and the place in it that the cursor names
    2 the filters and the search as conditions
    3 the page and one more row, which shows whether the list continues
    4 the total: from the cursor, from the search, or counted
    5 the cursors of the pages around it

    Raises `PageError` naming the parameter that is wrong, and `TooSlow`.
    """
    wanted = named(spec)
    limit = max(1, min(limit, MAX_LIMIT))
    order = orders.asked(wanted, sort, hidden)  # 1
    came_with = cursors.decrypt(cursor, order) if cursor else None
    start = Start(cursors.parsed(came_with.key, order), came_with.backward) if came_with else Start()
    asked = digest(filters or {}, search, hidden, queryset)
    known = None
    if came_with is not None and came_with.total is not None and came_with.question == asked:
        known = came_with.total, came_with.is_exact
    direct = columns is not None and queryset is None and not search.strip()
    with _in_time(each=direct):
        question = _question(wanted, filters or {}, search, hidden, queryset)  # 2
        reader: Reader | reading.Reader
        if columns is not None and direct:
            reader = Reader(question, order, columns, limit + 1, counts=count and known is None)
        else:
            reader = reading.Reader(question, order, limit + 1, known, keys_only=columns is not None)
        found = reader.read(start)  # 3
        if start.backward and len(found.keys) <= limit:  # the beginning of the list: a whole first page
            start = Start()
            found = reader.read(start)
        keys, items = found.keys[:limit], _items(question.base, order, found, limit, columns)
        total, is_exact = None, False
        if count:  # 4
            total, is_exact = known or reader.total(found)
    if start.backward:
        keys.reverse()
        items.reverse()
    more = len(found.keys) > limit
    has_next = bool(keys) and (start.backward or more)
    has_previous = bool(keys) and (more if start.backward else start.key is not None)

    def at(key: Key, *, backward: bool) -> str:  # 5
        text = cursors.as_text(key)
        made = Cursor(backward=backward, key=text, total=total, is_exact=is_exact, question=asked)
        return cursors.encrypt(made, order)

    return Page(
        items=items,
        next_cursor=at(keys[-1], backward=False) if has_next else None,
        previous_cursor=at(keys[0], backward=True) if has_previous else None,
        has_next=has_next,
        has_previous=has_previous,
        total_count=total,
        total_is_exact=is_exact,
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
    """Returns all rows that match the filters and the search, unordered."""
    return _question(named(spec), filters or {}, search, hidden, queryset).rows


def _question(
    spec: Spec, filters: Mapping[str, str], search: str, hidden: frozenset[str], queryset: QuerySet[Any] | None
) -> Question:
    base = (spec.model._default_manager.all() if queryset is None else queryset).order_by()
    if spec.related:
        base = base.select_related(*spec.related)
    states: tuple[Q, ...] = (Q(),)
    others = Q()
    for name, value in {**spec.defaults, **filters}.items():
        condition = _condition(spec, name, value, hidden)
        if name != STATE:
            others &= condition
        elif value == filter_kinds.ANY:
            states = (Q(deleted_at__isnull=True), Q(deleted_at__isnull=False))
        else:
            states = (condition,)
    asked = searches.words(search)
    if not asked:
        return Question(base, states, others)
    if (key := searches.whole_key(spec, asked)) is not None:
        return Question(base, states, others & Q(pk=key))
    sought = searches.condition(spec, asked, hidden)
    return Question(base.none(), (Q(),), Q()) if sought is None else Question(base, states, others, sought)


def _condition(spec: Spec, name: str, value: str, hidden: frozenset[str]) -> Q:
    known = spec.filters.get(name) if name not in hidden else None
    if known is None:
        raise UnknownFilter(f"{spec.name} cannot be filtered by {name!r}.", name)
    try:
        return known(value)
    except ValueError as error:
        raise InvalidFilter(f"The filter {name!r} takes {error}.", name) from None


def digest(filters: Mapping[str, str], search: str, hidden: frozenset[str], queryset: QuerySet[Any] | None) -> bytes:
    """Returns a digest that identifies a query, so that a cursor's total is not shown for another query."""
    restricted = ""
    if queryset is not None and queryset.query.where:
        with contextlib.suppress(EmptyResultSet):
            restricted = str(queryset.query)
    return cursors.digest(sorted(filters.items()), search.split(), sorted(hidden), restricted)


def _items(base: QuerySet[Any], order: Order, found: Found, limit: int, columns: Columns | None) -> list[Any]:
    """Returns the rows of the page, without those that were removed since their keys were read."""
    if found.items is not None:
        return found.items[:limit]
    keys = [key[-1] for key in found.keys[:limit]]
    if columns is not None:
        return tuples.rows_of(base.model, order, columns, keys)
    rows = {getattr(item, order.pk): item for item in base.filter(pk__in=keys)} if keys else {}
    return [rows[key] for key in keys if key in rows]


@contextlib.contextmanager
def _in_time(*, each: bool) -> Iterator[None]:
    """Limits the time of the statements inside, unless `each` sets its own limit. Raises `TooSlow`."""
    try:
        with contextlib.nullcontext() if each else timeouts.at_most(settings.LIST_STATEMENT_SECONDS):
            yield
    except errors.TookTooLong as error:
        raise TooSlow from error
