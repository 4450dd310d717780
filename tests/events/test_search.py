"""Searching events returns the same as a scan of every row, without such a scan."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from backoffice.sections.users.domain import UserRestored, UserUpdated
from events import context, errors, head, search, store
from events.db import timeouts
from events.search import Query
from events.types import RecordedEvent, new_id
from tests.events.interleaving import LONG

FILL = """
insert into events_event (stream, version, type, data, event_id, recorded_at, actor, correlation_id, metadata, hash)
select 'search-' || n % 50, (select coalesce(max(version), 0) from events_event where stream like 'search-%%') + n,
       case when n %% 1000 = 7 then 'search.rare' else 'search.common' end, '{}', gen_random_uuid(),
       clock_timestamp() - (20001 - n) * interval '1 minute', 'system', md5((n / 2)::text)::uuid, '{}', ''
  from generate_series(1, 20000) n
"""


SUMMARIZE = """
select brin_summarize_new_values(c.oid) from pg_class c join pg_am a on a.oid = c.relam
 where c.relkind = 'i' and a.amname = 'brin' and c.relname like 'events_event_p%'
"""


@pytest.fixture
def story(transactional_db: None) -> tuple[int, list[RecordedEvent]]:
    """A few hundred events of several streams, people and requests; the position before them, and all of them."""
    rng, start = random.Random(7), head.safe()
    streams = [f"user-{new_id()}" for _ in range(6)]
    for number in range(240):
        event = UserRestored() if number % 7 == 0 else UserUpdated(plan="free")
        with context.acting(actor=f"staff:{rng.randint(1, 4)}", correlation_id=uuid.UUID(int=rng.randint(1, 60))):
            store.append(rng.choice(streams), [event])
    return start, store.read_all(start, 1000, upto=head.safe())


def random_query(rng: random.Random, events: list[RecordedEvent]) -> tuple[Query, Any]:
    """A random query, and a function that checks the same conditions on one event."""
    one = rng.choice(events)
    moment, later = sorted(rng.choice(events).recorded_at for _ in range(2))
    conditions: dict[str, tuple[Any, Any]] = {
        "stream": (one.stream, lambda e: e.stream == one.stream),
        "type": (one.type, lambda e: e.type == one.type),
        "kind": ("user.", lambda e: e.type.startswith("user.")),
        "actor": (one.actor, lambda e: e.actor == one.actor),
        "correlation": (one.correlation_id, lambda e: e.correlation_id == one.correlation_id),
        "since": (moment, lambda e: e.recorded_at >= moment),
        "until": (later, lambda e: e.recorded_at < later),
        "categories": (("user",), lambda e: e.category == "user"),
    }
    names = rng.sample(sorted(conditions), rng.randint(0, 3))
    wanted = Query(**{name: conditions[name][0] for name in names})
    return wanted, lambda event: all(conditions[name][1](event) for name in names)


def found_positions(wanted: Query, start: int, limit: int) -> Iterator[int]:
    """The positions found above `start`, page by page."""
    upto = head.safe()
    while True:
        found = search.find(wanted, upto=upto, limit=limit)
        yield from (event.position for event in found.events if event.position > start)
        if found.end or found.reached <= start:
            return
        assert found.reached < upto
        upto = found.reached


def test_search_finds_the_same_as_a_scan_of_every_event(
    story: tuple[int, list[RecordedEvent]], monkeypatch: pytest.MonkeyPatch
) -> None:
    start, events = story
    monkeypatch.setattr(search, "WINDOW", 16)
    monkeypatch.setattr(search, "REACH", 100)
    monkeypatch.setattr(search, "NEAR", 4)
    for seed in range(500 if LONG else 20):
        rng = random.Random(seed)
        wanted, answers = random_query(rng, events)
        expected = [event.position for event in reversed(events) if answers(event)]
        assert list(found_positions(wanted, start, rng.choice([1, 7, 50]))) == expected, wanted


def test_event_of_a_slow_transaction_is_found_by_its_time(transactional_db: None) -> None:
    """Its recorded time is the start of its transaction, but its position follows events recorded later."""
    name = f"user-{new_id()}"
    with transaction.atomic():
        (began,) = store.query("select now()")[0]
        from tests.factories import Thread

        Thread(lambda: [store.append(f"user-{new_id()}", [UserUpdated(plan="free")]) for _ in range(5)]).result()
        placed = store.append(name, [UserUpdated(plan="free")]).position
    until = began + timedelta(microseconds=1)
    found = search.find(Query(since=began, until=until), upto=head.safe(), limit=5)
    assert [event.position for event in found.events] == [placed]


@pytest.mark.django_db
def test_no_search_reads_the_whole_log() -> None:
    """The rows are rolled back with the test's transaction, so the newest position replaces the head as bound."""
    with connection.cursor() as cursor:
        cursor.execute(FILL.replace("%%", "%"))
        cursor.execute(SUMMARIZE)
        cursor.execute("analyze events_event")
        cursor.execute("set local enable_seqscan = off")  # the planner would scan so few rows
        cursor.execute("select max(position), max(recorded_at) from events_event")
        top, now = cursor.fetchone()
    day = {"since": now - timedelta(days=9), "until": now - timedelta(days=8)}
    few = {"stream": "search-3", "correlation": uuid.UUID("c4ca4238a0b923820dcc509a6f75849b")}
    questions: list[dict[str, Any]] = [{"stream": few["stream"]}, {"correlation": few["correlation"]}, day, {}]
    for asked in questions:
        with CaptureQueriesContext(connection) as queries:
            assert search.find(Query(**asked), upto=top, limit=50).events, asked
        statement = queries[-1]["sql"]
        with connection.cursor() as cursor:
            cursor.execute("explain (analyze, format json) " + statement.replace("%", "%%"))
            plan = cursor.fetchone()[0][0]["Plan"]
        whole = {node["Relation Name"] for node in nodes(plan) if node["Node Type"] == "Seq Scan"}
        assert whole <= {"events_shredding"}, asked  # it has one row
        assert sum(node.get("Rows Removed by Filter", 0) for node in nodes(plan)) < 3000, asked


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


@pytest.mark.django_db
def test_page_deep_in_a_long_stream_is_found_by_its_index(transactional_db: None) -> None:
    name = f"user-{new_id()}"
    positions = [store.append(name, [UserUpdated(plan="free")]).position for _ in range(30)]
    with CaptureQueriesContext(connection) as queries:
        found = search.find(Query(stream=name), upto=positions[10] - 1, limit=5)
    assert [event.position for event in found.events] == positions[9:4:-1]
    assert "version < coalesce((select version" in queries[-1]["sql"]


@pytest.mark.django_db
def test_slow_statement_is_cancelled_and_the_connection_is_unchanged() -> None:
    before = store.query("show statement_timeout")
    for sleep in (
        lambda: store.query("select pg_sleep(30)"),
        lambda: connection.cursor().execute("select pg_sleep(30)"),
    ):
        with pytest.raises(errors.TookTooLong), transaction.atomic(), timeouts.at_most(0.05):
            sleep()
    with timeouts.at_most(30):
        assert store.query("show statement_timeout") == [("30s",)]
    assert store.query("show statement_timeout") == before
