"""The query bus: rights, declarations, names, and the command that invalidates cached values."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from datetime import UTC, date, datetime
from io import StringIO
from typing import Any, ClassVar, Literal

import msgspec
import pytest
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.core.management import CommandError, call_command

from backoffice import access
from backoffice.models import User
from backoffice.sections.submissions import domain as submissions
from backoffice.sections.users import domain as users
from events import commands, errors, freshness, head, store, valkey
from events.privacy import purging
from events.subscriptions import runner as subscriptions
from metrics import catalogue, queries
from metrics.caching import cache
from metrics.caching.entries import Memory
from metrics.counters.subscription import SUBSCRIPTION
from metrics.dashboard import tiles
from metrics.dashboard.asked import Span
from metrics.dashboard.layouts import Tile
from metrics.queries import Query
from tests import factories
from tests.backoffice import api_client
from tests.factories import Thread, command
from tests.metrics.caching.simulated import Process, every_query
from tests.metrics.counters import counting

PLANS = catalogue.UsersByPlan()


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Process:
    """A simulated process whose cache `queries.ask` uses."""
    process = Process()
    monkeypatch.setattr(cache, "LOCAL", process.cache)
    return process


# -- asking -----------------------------------------------------------------------------------------------------------


def test_answer_carries_the_position_and_the_time_it_is_right_for(process: Process) -> None:
    before = time.time()
    answer = queries.ask(PLANS, api_client.staff("viewer"))
    assert answer.position == process.known.position == head.safe()
    assert before - 1 <= answer.at.timestamp() <= time.time() + 1
    assert msgspec.json.decode(answer.raw, type=catalogue.PlanCounts) == answer.value


def test_person_without_the_right_gets_no_answer_even_when_it_is_cached(process: Process) -> None:
    queries.ask(catalogue.SystemHealth(), api_client.staff("manager"))
    with pytest.raises(PermissionDenied):
        queries.ask(catalogue.SystemHealth(), api_client.staff("agent"))
    with pytest.raises(PermissionDenied):
        asyncio.run(queries.aask(catalogue.SystemHealth(), api_client.staff("agent")))


def test_value_of_one_role_is_never_given_to_another() -> None:
    """directus/directus#11916: a response cached for one role was served to another."""
    names = {
        queries.task_of(query, role).key for query in every_query(factories.user()) for role in ("admin", "viewer")
    }
    assert len(names) == 2 * len(every_query(factories.user()))


def test_change_of_role_holds_on_the_next_request(process: Process) -> None:
    staff = api_client.staff("manager")
    assert queries.ask(catalogue.SystemHealth(), staff)
    staff.role = "viewer"
    assert access.projection_key(staff) == "viewer"
    with pytest.raises(PermissionDenied):
        queries.ask(catalogue.SystemHealth(), staff)


def test_consistent_answer_includes_everything_that_is_committed(process: Process) -> None:
    staff = api_client.staff("viewer")
    queries.ask(PLANS, staff)
    factories.user()
    assert queries.ask(PLANS, staff).value.free == 0
    assert queries.ask(PLANS, staff, consistent=True).value.free == 1


def test_answer_on_the_event_loop_is_the_same(process: Process) -> None:
    staff = api_client.staff("viewer")
    expected = queries.ask(PLANS, staff).value
    assert asyncio.run(queries.aask(PLANS, staff)).value == expected


def test_query_that_is_not_cached_is_loaded_each_time(process: Process) -> None:
    staff, owner = api_client.staff("viewer"), factories.user()
    form = factories.form(owner)
    for number in (1, 2):
        factories.submission(form)
        counting.follow()
        answer = queries.ask(catalogue.UserStats(ids=(owner,)), staff)
        (found,) = answer.value
        assert (found.id, found.form_count, found.submission_count) == (owner, 1, number)
        assert (found.recent_submissions, answer.position) == (number, head.safe())
    assert len(process.memory) == 0


def test_totals_of_a_tile_include_what_is_counted_for_today(process: Process) -> None:
    staff = api_client.staff("admin")
    before = queries.ask(catalogue.Totals(), staff).value.user_count
    factories.user()
    counting.follow()
    process.follow()
    assert queries.ask(catalogue.Totals(), staff).value.user_count == before, "it may be 30 seconds old"
    tile = tiles.fill(Tile(id="figures", kind="figures", w=2, h=1, options={}), staff, Span())
    users = tile.content["rows"][0]
    assert (users["total"], users["today"]) == (before + 1, 1)


def test_count_read_right_after_a_write_includes_it_in_every_process() -> None:
    """getsentry/sentry#57361: increments were kept under one key and read under another."""
    staff, form = api_client.staff("viewer"), factories.form()
    processes, stop = [Process(), Process()], threading.Event()
    counters = Thread(lambda: subscriptions.run(SUBSCRIPTION, stop))
    try:
        for number in range(1, 6):
            data = submissions.ReceiveSubmission(form_id=form, answers={})
            done = commands.dispatch(command(data, factories.new_id()))
            for process in processes:
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(cache, "LOCAL", process.cache)
                    answer = queries.ask(catalogue.Totals(), staff, min_position=done.position)
                assert answer.value.submission_count == number
    finally:
        stop.set()
        counters.result()


def test_count_of_a_subscription_that_does_not_follow_times_out(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "CONSISTENT_SECONDS", 0.05)
    factories.user()
    with pytest.raises(errors.WaitTimeout):
        queries.ask(catalogue.Totals(), api_client.staff("viewer"), consistent=True)


def test_every_day_has_a_row_and_no_time_is_not_zero(process: Process) -> None:
    factories.submission()
    counting.follow()
    today = datetime.now(UTC).date()
    answer = queries.ask(
        catalogue.FormStats(first=date(2026, 3, 28), last=date(2026, 3, 31)), api_client.staff("viewer")
    )
    assert [row.date.day for row in answer.value] == [28, 29, 30, 31]
    (row,) = queries.ask(catalogue.FormStats(first=today, last=today), api_client.staff("viewer")).value
    assert (row.forms_created, row.unique_users, row.submissions, row.avg_completion_time) == (1, 1, 1, None)


def test_totals_and_health_are_those_of_the_database(process: Process) -> None:
    factories.submission()
    counting.follow()
    totals = queries.ask(catalogue.Totals(), api_client.staff("viewer")).value
    assert (totals.user_count, totals.form_count, totals.submission_count) == (1, 1, 1)
    health = queries.ask(catalogue.SystemHealth(), api_client.staff("manager")).value
    assert health.head == head.safe()


# -- declaring --------------------------------------------------------------------------------------------------------


def declared(**attributes: Any) -> None:
    given = {"name": "test", "right": ("view", "user"), "tags": ("user",), "result": int, **attributes}
    annotations = dict.fromkeys(given, ClassVar[Any])
    queries.define(type("Declared", (Query,), {"__annotations__": annotations, **given}, frozen=True, kw_only=True))


class Named(msgspec.Struct):
    number: int
    nested: list[str]


@pytest.mark.parametrize("result", [str, Named, list[str], dict[str, int], Any, int | str, list[Named]])
def test_text_cannot_be_shared(result: Any) -> None:
    with pytest.raises(TypeError, match="personal data"):
        declared(shared=True, result=result)


@pytest.mark.parametrize(
    "result", [int, float | None, list[catalogue.FormDay], Literal["a", "b"], dict[date, int], User.Plan]
)
def test_numbers_dates_and_known_words_can_be_shared(result: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "_queries", {})
    declared(shared=True, result=result)


def test_exact_query_over_tables_that_follow_the_log_is_refused() -> None:
    with pytest.raises(TypeError, match="exact"):
        declared(fed_by=("counters",))


def test_exact_query_without_tags_is_refused() -> None:
    with pytest.raises(TypeError, match="no event"):
        declared(tags=())


def test_two_queries_cannot_have_one_name() -> None:
    with pytest.raises(TypeError, match="two queries"):
        declared(name="totals")


def test_every_declared_query_has_the_lifetime_of_the_specification() -> None:
    limits = {"metrics:users": 300, "user-forms": 300, "form-stats": 60, "system-health": 30}
    found = queries.registered()
    assert {name: found[name].seconds for name in limits} == limits
    assert found["user-stats"].seconds == 0


def test_day_ends_at_midnight_in_utc() -> None:
    evening = datetime.fromisoformat("2026-03-29T01:30:00+02:00")
    assert queries.next_midnight(evening) == datetime(2026, 3, 29, tzinfo=UTC)


# -- invalidating -----------------------------------------------------------------------------------------------------


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("invalidate_cache", *arguments, stdout=out)
    return out.getvalue()


def test_invalidated_values_are_loaded_again_in_every_process() -> None:
    processes, owner = [Process() for _ in range(2)], factories.user()
    asked = every_query(owner)
    for process in processes:
        process.follow()
        for query in asked:
            process.ask(query)
    position = json.loads(run(f"user-forms:{owner}:*", "--json", "--reason", "by hand"))["position"]
    counting.follow()
    for process in processes:
        process.follow()
        low = {query.name: process.known.lowest(queries.value_name(query, "admin"), (), exact=False) for query in asked}
        assert {name for name, at in low.items() if at >= position} == {"user-forms"}
        assert process.get(asked[2]).asof >= position
    (event,) = store.read_stream("cache-values")[-1:]
    assert (event.type, event.reason, event.data) == (
        "cache.invalidated",
        "by hand",
        {"pattern": f"user-forms:{owner}:*"},
    )


@pytest.mark.parametrize("pattern", ["*", "form-stats", "form-stats:*", "metrics:*", "user-forms:1:*", "user*"])
def test_patterns_that_can_match_are_accepted(pattern: str) -> None:
    assert "position" in run(pattern, "--json")


@pytest.mark.parametrize("pattern", ["", "forms:*", "nothing", "x" * 300, "form-statistics:*"])
def test_patterns_that_match_no_query_are_refused(pattern: str) -> None:
    with pytest.raises(CommandError):
        run(pattern)


# -- erasing ----------------------------------------------------------------------------------------------------------


def test_after_an_erasure_neither_memory_nor_valkey_holds_the_address(process: Process) -> None:
    address, key = f"{factories.new_id()}@example.org", factories.new_id()
    commands.dispatch(command(users.CreateUser(email=address), key))
    process.follow()
    private = cache.Task(
        "test:address",
        "test:address",
        lambda: msgspec.json.encode(store.query("select email from users where id = %s", (key,))[0][0]),
        slots=freshness.slots([f"user-{key}"]),
        stats=queries._figures["totals"],
    )
    assert address.encode() in process.cache.get(private).value
    for query in every_query(key):
        process.ask(query)
    commands.dispatch(command(users.EraseUser(), key, reason="asked"))
    purging.finish()
    process.follow()
    assert address not in str([entry.value for entry in process.memory._entries.values()])
    assert address.encode() not in process.cache.get(private).value
    client = valkey.client("background")
    for name in client.scan_iter(f"{settings.REDIS_PREFIX}:figures:value:*"):
        assert address.encode() not in name + client.hget(name, "value")
    client.close()


def test_value_read_before_an_erasure_is_not_kept_after_it(process: Process) -> None:
    entry = process.get(PLANS)
    key = factories.user()
    commands.dispatch(command(users.EraseUser(), key, reason="asked"))
    process.follow()
    memory = Memory(1 << 20, process.known)
    memory.put("late", entry)
    assert len(memory) == 0
