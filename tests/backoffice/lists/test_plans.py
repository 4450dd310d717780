"""Every page of every list, as PostgreSQL runs it: no page reads or sorts more than it shows, however long the list is.

The lists, their sorts and filters are those that the sections declare. The plans are those of the statements that run,
reported by the server itself (`auto_explain`), with the rows and blocks that they took.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import psycopg
import pytest
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.db.models import ForeignKey, QuerySet

from backoffice import access, extensions, listing, section
from backoffice.listing import cursor as cursors
from backoffice.listing import order, reading
from backoffice.listing.cursor import Cursor
from backoffice.models import Staff, Submission
from backoffice.section import Kind
from backoffice.sections.conflicts import inbox
from events import store
from tests.backoffice import api_client
from tests.backoffice.lists import filled
from tests.backoffice.lists.filled import ROWS

SHOWN: Final = listing.LIMIT + 1
# A filter, a state and an empty column together keep at least one row of 32 along a walk.
MOST_READ: Final = 50 * SHOWN
# Two ranges of two runs each, merged.
MOST_SORTED: Final = 4 * SHOWN
# Each row read through two indexes of three levels.
MOST_BLOCKS: Final = 8 * MOST_READ

CATEGORIES: Final = [kind.category for kind in section.kinds()]


# -- the plans of what runs -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """One statement that ran."""

    statement: str
    root: Mapping[str, Any]

    def nodes(self) -> Iterator[Mapping[str, Any]]:
        waiting = [self.root]
        while waiting:
            node = waiting.pop()
            yield node
            waiting += node.get("Plans", [])

    @property
    def tables(self) -> set[str]:
        return {node["Relation Name"] for node in self.nodes() if "Relation Name" in node}

    @property
    def read(self) -> float:
        """Rows that were read, whether or not they were used."""
        return sum(
            (node["Actual Rows"] + sum(node.get(name, 0) for name in REMOVED)) * node["Actual Loops"]
            for node in self.nodes()
            if "Relation Name" in node
        )

    @property
    def sorted(self) -> float:
        """Rows of the largest sort."""
        sorts = [node for node in self.nodes() if "Sort" in node["Node Type"]]
        return max((sum(rows(child) for child in node["Plans"]) for node in sorts), default=0)

    @property
    def scanned(self) -> list[str]:
        """Tables that were read from the beginning to the end."""
        return [
            node["Relation Name"]
            for node in self.nodes()
            if node["Node Type"] == "Seq Scan" and rows(node) + node.get("Rows Removed by Filter", 0) > MOST_READ
        ]

    @property
    def blocks(self) -> int:
        return int(self.root["Shared Hit Blocks"] + self.root["Shared Read Blocks"])

    @property
    def spilled(self) -> int:
        return int(self.root["Temp Written Blocks"])

    def faults(self, read: float = MOST_READ, ordered: float = MOST_SORTED) -> list[str]:
        found = [f"scans {table}" for table in self.scanned]
        found += [f"reads {self.read:.0f} rows"] if self.read > read else []
        found += [f"sorts {self.sorted:.0f} rows"] if self.sorted > ordered else []
        found += [f"takes {self.blocks} blocks"] if self.blocks > max(MOST_BLOCKS, 8 * read) else []
        return found + (["spills"] if self.spilled else [])


REMOVED: Final = ("Rows Removed by Filter", "Rows Removed by Index Recheck", "Rows Removed by Join Filter")


def rows(node: Mapping[str, Any]) -> float:
    return float(node["Actual Rows"] * node["Actual Loops"])


@contextmanager
def explained() -> Iterator[list[Plan]]:
    """Collects the plans of all statements that this connection runs within the block, also in a pipeline."""
    found: list[Plan] = []

    def take(diagnostic: Any) -> None:
        _, is_plan, text = str(diagnostic.message_primary).partition("plan:\n")
        if is_plan:
            shown = json.loads(text)
            if "Actual Rows" in shown["Plan"]:  # the estimate of a total only plans
                found.append(Plan(shown["Query Text"], shown["Plan"]))

    db = connection.connection
    db.add_notice_handler(take)
    try:
        yield found
    finally:
        db.remove_notice_handler(take)


SETTINGS: Final = ("log_min_duration = 0", "log_analyze = on", "log_timing = off", "log_buffers = on")


@pytest.fixture(scope="module")
def tables(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Long tables for all lists, for the tests of this module; everything is undone afterwards."""
    specs = [*(section.kind(category).spec for category in CATEGORIES), inbox.SPEC]
    with django_db_blocker.unblock():
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                try:
                    cursor.execute("load 'auto_explain'")
                except psycopg.errors.InsufficientPrivilege:
                    pytest.skip("this role may not load auto_explain")
                for setting in (*SETTINGS, "log_format = json", "log_level = notice"):
                    cursor.execute(f"set local auto_explain.{setting}")
                cursor.execute("set local auto_explain.log_min_duration = -1")
                filled.fill(specs)
                cursor.execute("set local auto_explain.log_min_duration = 0")
                yield
                transaction.set_rollback(True)
        finally:
            connection.close()


# -- the questions ----------------------------------------------------------------------------------------------------


def people() -> list[Staff]:
    """One person of each role."""
    return [
        Staff(pk=n, username=role, role=role, is_staff=True, is_superuser=role == "admin")
        for n, role in enumerate(api_client.ROLES, 1)
    ]


def readers(kind: Kind) -> list[Staff]:
    """People who see the list, one for each set of hidden fields."""
    seen = [person for person in people() if access.sees(kind.category, person)]
    return list({access.hidden_fields(person, kind.category): person for person in seen}.values())


def values(kind: Kind, name: str) -> list[str]:
    """Values that a filter accepts: the first choice, both answers of a question, a key, a moment in the middle."""
    fields = kind.model._meta.concrete_fields
    keys = [field.attname for field in fields if isinstance(field, ForeignKey)]
    row = kind.model._default_manager.order_by("pk").values(*keys)[0] if keys else {}
    choices = [choice for field in fields if field.choices for choice, _ in field.choices]
    moment = (datetime.now(UTC) - timedelta(days=30)).isoformat()
    accepted: dict[str, str] = {}
    for value in [*choices, "true", "false", "any", *map(str, row.values()), moment]:
        try:
            accepted[repr(kind.spec.filters[name](value))] = value
        except (ValueError, ValidationError):
            continue
    assert accepted, f"no test value for the filter {name} of {kind.name}: add one here"
    found = list(accepted.values())
    return found[:1] if found[0] in choices else found


def filters(kind: Kind) -> list[dict[str, str]]:
    """No filter, and each one alone."""
    return [{}, *({name: value} for name in kind.spec.filters for value in values(kind, name))]


def sorts(spec: listing.Spec, hidden: frozenset[str]) -> list[str]:
    names = [name for name, sort in spec.sorts.items() if not hidden & {name, sort.column, *sort.then}]
    return [f"{sign}{name}" for name in names for sign in ("", "-")]


def deep(spec: listing.Spec, sort: str, ask: Callable[..., listing.Page]) -> list[str]:
    """Cursors near the end of the list, forwards and backwards: the end of the first page in the opposite order."""
    opposite = sort.removeprefix("-") if sort.startswith("-") else f"-{sort}"
    first = ask(sort=opposite)
    if first.next_cursor is None:
        return []
    key = cursors.decrypt(first.next_cursor, order.asked(spec, opposite, frozenset())).key
    asked = order.asked(spec, sort, frozenset())
    return [cursors.encrypt(Cursor(backward=backward, key=key), asked) for backward in (False, True)]


# -- the tests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("category", CATEGORIES)
def test_page_reads_and_sorts_no_more_than_it_shows(tables: None, category: str) -> None:
    kind, wrong = section.kind(category), []
    for number, person in enumerate(readers(kind)):
        hidden = access.hidden_fields(person, category)
        fields = kind.shape.__struct_fields__ if kind.shape else ()
        visible = tuple(name for name in fields if name not in hidden)
        columns = listing.Columns.of(visible, extensions.api_columns(kind, person))
        for chosen in [{}] if number else filters(kind):  # what is hidden changes columns, not conditions
            for sort in sorts(kind.spec, hidden):
                ask = partial(listing.page, kind.spec, filters=chosen, hidden=hidden, count=False)
                asked = [(cursor, columns) for cursor in (None, *deep(kind.spec, sort, ask))]
                if not chosen:
                    asked += [(cursor, None) for cursor, _ in asked]  # as instances of the model, for the pages
                for cursor, read_columns in asked:
                    with explained() as plans:
                        page = ask(sort=sort, cursor=cursor, columns=read_columns)
                    assert page.items
                    wrong += [
                        f"{person.role}: {kind.name}/?sort={sort}&{chosen} {'deep' if cursor else ''}: {fault}"
                        for plan in plans
                        for fault in plan.faults()
                    ]
    assert not wrong, "\n".join(wrong)


# Submissions are found by words of their form: which join is cheaper depends on the sizes of both tables.
SEARCHED: Final = [kind.category for kind in section.kinds() if kind.search and not kind.found_by_id_only]


@pytest.mark.parametrize("category", SEARCHED)
def test_search_reads_no_more_than_its_matches_or_the_next_rows_of_the_list(tables: None, category: str) -> None:
    kind, wrong = section.kind(category), []
    for sort in sorts(kind.spec, frozenset()):
        is_near = kind.spec.sorts[sort.removeprefix("-")].through is None
        for word, matches in ((filled.RARE, filled.RARE_ROWS), ("zz", 0), (filled.COMMON, ROWS)):
            most = reading.NEARBY + MOST_READ + (0 if matches == ROWS and is_near else 8 * matches)
            with explained() as plans:
                page = listing.page(kind.spec, search=word, sort=sort, count=False)
            assert bool(page.items) is bool(matches)
            wrong += [
                f"{kind.name}/?search={word}&sort={sort}: {fault}"
                for plan in plans
                for fault in plan.faults(read=most, ordered=max(most, MOST_SORTED))
                if not (fault.startswith("scans") and matches == ROWS)
            ]
    assert not wrong, "\n".join(wrong)


DELETED: Final = """
insert into submissions (id, form_id, answers, created_at, deleted_at, version, updated_at)
select gen_random_uuid(), %s, '{}', now(), now(), 1, now() from generate_series(1, 5000)
"""


@pytest.mark.parametrize("sort", ["created_at", "-created_at"])
def test_page_of_a_form_reads_none_of_its_many_deleted_submissions(tables: None, sort: str) -> None:
    form = Submission.objects.filter(deleted_at=None).order_by("pk").values_list("form_id", flat=True)[0]
    with transaction.atomic():
        store.execute(DELETED, (form,))
        store.execute("analyze submissions")
        with explained() as plans:
            page = listing.page("submissions", sort=sort, filters={"form": str(form)})
        transaction.set_rollback(True)
    assert 0 < len(page.items) <= filled.CHILDREN
    assert [fault for plan in plans for fault in plan.faults(read=2 * SHOWN)] == []


def inboxes(person: Staff) -> dict[str, QuerySet[Any]]:
    seen = inbox.visible(person)
    found = {status: seen.filter(status=status) for status in ("open", "resolved")}
    return found | {"any": seen}


@pytest.mark.parametrize("role", api_client.ROLES)
def test_page_of_conflicts_reads_and_sorts_no_more_than_it_shows(tables: None, role: str) -> None:
    person, wrong = next(one for one in people() if one.role == role), []
    for name, rows_seen in inboxes(person).items():
        for sort in sorts(inbox.SPEC, frozenset()):
            ask = partial(listing.page, inbox.SPEC, queryset=rows_seen, count=False)
            for cursor in [None, *deep(inbox.SPEC, sort, ask)]:
                with explained() as plans:
                    ask(sort=sort, cursor=cursor)
                wrong += [f"{name} {sort}: {fault}" for plan in plans for fault in plan.faults()]
    assert not wrong, "\n".join(wrong)
