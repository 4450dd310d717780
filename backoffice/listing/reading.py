"""Ways to read the rows of a page, and the choice between them.

without a search   read the index of the sort from the cursor; for living and deleted rows together, merge two indexes
with a search      1 look at the next `NEARBY` rows of the list: hits of a common word fill a page
                   2 collect all hits by the index of the search, sort them, and take the page and the total
                   3 above `HIT_CAP` hits, read the index of the sort until the page is full

The planner alone cannot choose between 1 and 2: it assumes that hits are spread evenly, and reads a whole table where
all of them are old. The choice here depends only on the number of hits in step 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.db.models import BooleanField, ExpressionWrapper, OuterRef, Q, QuerySet, Subquery

from backoffice.listing import order as orders
from backoffice.listing import totals
from backoffice.listing.order import Key, Order, Start
from backoffice.listing.statements import Statement, compiled
from events.db import replica

NEARBY: Final = 2_000
HIT_CAP: Final = 50_000


@dataclass(frozen=True, slots=True)
class Question:
    """A query for rows of a list.

    base     all rows of the list
    states   conditions on `deleted_at`, each with its own index; two for living and deleted rows together
    filters  the other filters
    search   the condition of the search; None without a search
    """

    base: QuerySet[Any]
    states: tuple[Q, ...]
    filters: Q
    search: Q | None = None

    @property
    def is_unfiltered(self) -> bool:
        return self.search is None and not self.filters and not self.base.query.where

    @property
    def rows(self) -> QuerySet[Any]:
        state = self.states[0] if len(self.states) == 1 else Q()
        return self.base.filter(state, self.conditions)

    @property
    def conditions(self) -> Q:
        """All conditions but the states."""
        return self.filters & self.search if self.search is not None else self.filters


@dataclass(frozen=True, slots=True)
class Found:
    """Keys in reading order, their rows if those were read too, and the total if known."""

    keys: list[Key]
    items: list[Any] | None = None
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads up to `size` rows of one question as model instances, or their keys only.

    `known` is the total, if a cursor carried it.
    """

    question: Question
    order: Order
    size: int
    known: tuple[int, bool] | None
    keys_only: bool = False

    def read(self, start: Start) -> Found:
        """Returns the rows after the start, in reading order: towards the end or, backward, towards the beginning."""
        question, order, limit = self.question, self.order, self.size
        if question.search is None:
            return _walk(question, order, start, limit, keys_only=self.keys_only)
        if found := _look_nearby(question, order, start, limit):  # 1
            return found
        if self.known is None or self.known[0] <= HIT_CAP:
            found = _sort_hits(question, order, start, limit)  # 2
            if found.total is None or found.total <= HIT_CAP:
                return found
        return _walk(question, order, start, limit, keys_only=self.keys_only)  # 3

    def total(self, found: Found) -> tuple[int, bool]:
        """Returns the number of all rows, and whether it is exact."""
        if found.total is not None and found.total <= HIT_CAP:
            return found.total, True
        rows = self.question.rows
        return totals.total_of_all(rows) if self.question.is_unfiltered else totals.total_of(rows)


def _walk(question: Question, order: Order, start: Start, limit: int, *, keys_only: bool) -> Found:
    if order.sort.through is not None:
        keys: list[Key] = []
        for run in orders.runs(order, start):
            if len(keys) < limit:
                found = orders.keys_through(question.rows, order, run, order.sort.through)
                keys += [orders.key_of(run, row) for row in found[: limit - len(keys)]]
        return Found(keys)
    if len(question.states) > 1:
        return Found(_fetch(merged(question, order, start, limit)))
    items: list[Any] = []
    for run in orders.runs(order, start):
        if len(items) < limit:
            rows = orders.window(question.base.filter(question.states[0]), question.conditions, order, run)
            if keys_only:
                rows = rows.values_list(*order.columns, order.pk)
            items += rows[: limit - len(items)]
    if keys_only:
        return Found(items)
    return Found([order.key(item) for item in items], items)


def merged(question: Question, order: Order, start: Start, limit: int) -> Statement | None:
    """Returns the statement for the next keys of all states together, each state read along its own index."""
    parts = []
    for state in question.states:
        for run in orders.runs(order, start):
            rows = orders.window(question.base.filter(state), question.conditions, order, run)
            parts.append(compiled(rows.values_list(*order.columns, order.pk)[:limit]))
    found = [part for part in parts if part]
    if not found:
        return None
    union = " union all ".join(f"({part.sql})" for part in found)
    listed = ", ".join(names(order))
    sql = f"select * from ({union}) as part ({listed}) order by {order_by(order, start)} limit %s"  # noqa: S608
    return Statement(sql, (*(value for part in found for value in part.parameters), limit))


def _look_nearby(question: Question, order: Order, start: Start, limit: int) -> Found | None:
    """Returns the page if the hits among the next `NEARBY` rows fill it, otherwise None."""
    if order.sort.through is not None or len(question.states) > 1:
        return None
    assert question.search is not None
    is_hit = ExpressionWrapper(question.filters & question.search, output_field=BooleanField())
    rows = orders.window(question.base.filter(question.states[0]), Q(), order, orders.runs(order, start)[0])
    near = compiled(rows.annotate(is_hit=is_hit).values_list(*order.columns, order.pk, "is_hit")[:NEARBY])
    if near is None:
        return None
    columns = ", ".join(names(order))
    sql = f"""select {columns} from ({near.sql}) as near ({columns}, is_hit) where is_hit
               order by {order_by(order, start)} limit %s"""  # noqa: S608 - compiled by Django, with parameters
    keys = _fetch(Statement(sql, (*near.parameters, limit)))
    return Found(keys) if len(keys) == limit else None


def _sort_hits(question: Question, order: Order, start: Start, limit: int) -> Found:
    """Returns the page and the total from all hits, of which at most `HIT_CAP` + 1 are read."""
    rows = question.rows
    if (through := order.sort.through) is not None:
        others = through.model._default_manager.order_by().filter(**{through.key: OuterRef(order.pk)})
        rows = rows.annotate(through_value=Subquery(others.values(order.sort.column)[:1]))
        if not order.sort.nullable:
            rows = rows.filter(through_value__isnull=False)
        hits = compiled(rows.values_list("through_value", order.pk)[: HIT_CAP + 1])
    else:
        hits = compiled(rows.values_list(*order.columns, order.pk)[: HIT_CAP + 1])
    if hits is None:
        return Found([], total=0)
    columns = ", ".join(names(order))
    beyond, compared = _beyond(order, start)
    sql = f"""with hit ({columns}) as materialized ({hits.sql})
              select {columns}, (select count(*) from hit) from hit where {beyond}
               order by {order_by(order, start)} limit %s"""  # noqa: S608 - compiled by Django, with parameters
    found = _fetch(Statement(sql, (*hits.parameters, *compared, limit)))
    if not found:
        return Found([], total=0 if start.key is None else None)
    return Found([row[:-1] for row in found], total=found[0][-1])


# -- SQL over the keys of rows ----------------------------------------------------------------------------------------


def names(order: Order) -> list[str]:
    return [*(f"v{n}" for n in range(len(order.columns))), "pk"]


def _terms(order: Order) -> list[str]:
    is_text = order.sort.is_text
    return [*(f'search_text({name}) collate "C"' if is_text else name for name in names(order)[:-1]), "pk"]


def order_by(order: Order, start: Start) -> str:
    direction = "desc" if order.descending != start.backward else "asc"
    empty_last = [f"v0 is null {'desc' if start.backward else 'asc'}"] if order.sort.nullable else []
    return ", ".join([*empty_last, *(f"{term} {direction}" for term in _terms(order))])


def _beyond(order: Order, start: Start) -> tuple[str, Sequence[Any]]:
    """Returns the condition for the rows after the start, and its parameters."""
    if start.key is None:
        return "true", ()
    sign = "<" if order.descending != start.backward else ">"
    if order.sort.nullable and start.key[0] is None:
        after = f"v0 is null and pk {sign} %s"
        return (f"({after} or v0 is not null)" if start.backward else after), (start.key[-1],)
    values = ["search_text(%s)" if order.sort.is_text else "%s" for _ in order.columns]
    after = f"({', '.join(_terms(order))}) {sign} ({', '.join([*values, '%s'])})"
    return (f"({after} or v0 is null)" if order.sort.nullable and not start.backward else after), start.key


def _fetch(statement: Statement | None) -> list[Any]:
    if statement is None:
        return []
    with replica.database().cursor() as cursor:
        cursor.execute(statement.sql, statement.parameters)
        return list(cursor.fetchall())
