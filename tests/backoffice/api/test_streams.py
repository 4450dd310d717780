"""Streams, past states and the log: complete, ordered, and limited by permissions."""

from __future__ import annotations

import threading
from typing import Any

import msgspec
import pytest
from django.db import connection, transaction

from backoffice.api import shapes
from events import head, search, store
from tests import factories
from tests.backoffice import api_client
from tests.backoffice.api_client import problem

pytestmark = pytest.mark.django_db


@pytest.fixture
def manager() -> api_client.Caller:
    return api_client.signed_in("manager")


def test_stream_has_the_events_of_one_record(manager: api_client.Caller) -> None:
    key = factories.user(first_name="Ada")
    factories.update(key, first_name="Augusta")
    answer = manager.get(f"streams/user-{key}/").json()
    assert [event["event"] for event in answer["items"]] == ["user.created", "user.updated"]
    assert answer["version"] == 2
    assert answer["items"][1]["data"] == {"first_name": "Augusta"}
    msgspec.convert(answer, shapes.StreamPage)


def test_stream_is_read_in_pages(manager: api_client.Caller) -> None:
    key = factories.user()
    for name in ("A", "B", "C"):
        factories.update(key, first_name=name)
    answer = manager.get(f"streams/user-{key}/?after=1&limit=2").json()
    assert [event["version"] for event in answer["items"]] == [2, 3]
    assert answer["version"] == 4
    assert manager.get(f"streams/user-{key}/?after=4").json()["items"] == []
    assert manager.get(f"streams/user-{str(key).upper()}/?after={2**63 - 1}").json()["items"] == []


@pytest.mark.parametrize(
    "stream",
    [
        "user",
        "user-",
        "user-x",
        "user-018f0000-0000-7000-8000-000000000000",
        "-",
        "USER-1",
        "setting-Upper",
        "user-%00",
        "nope-1",
        "a" * 999,
    ],
)
def test_missing_stream_returns_404(stream: str) -> None:
    caller = api_client.Caller(api_client.staff("admin"), raises=False)
    problem(caller.get(f"streams/{stream}/"), 404, "not_found")
    problem(caller.get(f"streams/{stream}/state/"), 404, "not_found")


def test_record_is_shown_at_a_version(manager: api_client.Caller) -> None:
    key = factories.user(first_name="Ada")
    factories.update(key, first_name="Augusta")
    path = f"streams/user-{key}/state/"
    names = [manager.get(f"{path}?version={version}").json()["state"]["first_name"] for version in (1, 2)]
    assert names == ["Ada", "Augusta"]
    now = manager.get(path).json()
    assert (now["stream"], now["version"], now["state"]["first_name"]) == (f"user-{key}", 2, "Augusta")
    assert manager.get(f"{path}?version=0").json() == {"stream": f"user-{key}", "version": 0, "state": None}
    problem(manager.get(f"{path}?version=3"), 404, "not_found")
    msgspec.convert(now, shapes.State)


@pytest.mark.django_db(transaction=True)
def test_record_is_shown_at_a_time(manager: api_client.Caller) -> None:
    key = factories.user(first_name="Ada")
    factories.update(key, first_name="Augusta")
    created, updated = (event.recorded_at for event in store.read_stream(f"user-{key}"))
    path = f"streams/user-{key}/state/?at="
    assert manager.get(path + created.strftime("%Y-%m-%dT%H:%M:%S.%fZ")).json()["state"]["first_name"] == "Ada"
    assert manager.get(path + updated.isoformat()).json()["version"] == 2  # the + of its zone arrives as a space
    assert manager.get(path + "2020-01-01T00:00:00").json() == {"stream": f"user-{key}", "version": 0, "state": None}


@pytest.mark.parametrize(
    "query",
    ["at=yesterday", "at=2026-13-01T00:00:00Z", "at=0001-01-01T00:00:00%2B14:00", "version=-1", "version=x",
     "version=1&at=2026-01-01T00:00:00Z", f"version={2**63}", "at="],
)  # fmt: skip
def test_invalid_time_returns_400(query: str) -> None:
    caller = api_client.Caller(api_client.staff("manager"), raises=False)
    response = caller.get(f"streams/user-{factories.user()}/state/?{query}")
    assert problem(response, 400, "invalid_parameter")["parameter"] in {"at", "version"}


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_extreme_times_are_valid(at: str) -> None:
    caller = api_client.Caller(api_client.staff("manager"), raises=False)
    assert caller.get(f"streams/user-{factories.user()}/state/?at={at}").status_code == 200


# -- the log --------------------------------------------------------------------------------------------------------


def poll(caller: api_client.Caller, **query: Any) -> dict[str, Any]:
    asked = "&".join(f"{name}={value}" for name, value in query.items())
    answer: dict[str, Any] = caller.get(f"events/?{asked}").json()
    msgspec.convert(answer, shapes.EventPage)
    return answer


@pytest.mark.django_db(transaction=True)
def test_log_is_read_in_order_up_to_its_head(manager: api_client.Caller) -> None:
    start = head.safe()
    key = factories.user()
    factories.update(key, first_name="Ada")
    factories.form(key)
    first = poll(manager, after=start, limit=2)
    assert [event["event"] for event in first["items"]] == ["user.created", "user.updated"]
    rest = poll(manager, after=first["items"][-1]["position"])
    assert [event["event"] for event in rest["items"]] == ["form.created"]
    assert rest["head"] >= rest["items"][-1]["position"]
    assert poll(manager, after=rest["head"])["items"] == []
    assert poll(manager, after=2**63 - 1)["items"] == []


@pytest.mark.django_db(transaction=True)
def test_log_is_filtered_by_kind(manager: api_client.Caller) -> None:
    start = head.safe()
    factories.submission()
    kinds = [event["event"] for event in poll(manager, after=start, type="form.created,submission.received")["items"]]
    assert kinds == ["form.created", "submission.received"]
    found = problem(manager.get("events/?type=form.created,form.painted"), 400, "unknown_filter")
    assert "form.created" in found["allowed"]


@pytest.mark.django_db(transaction=True)
def test_search_for_a_rare_type_says_how_far_it_came(
    manager: api_client.Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = head.safe()
    for _ in range(3):
        factories.user()
    form = factories.form()
    factories.user()
    monkeypatch.setattr(search, "REACH", 2)
    after, found = start, []
    while True:
        page = poll(manager, after=after, type="form.created")
        found += [event["stream"] for event in page["items"]]
        assert page["head"] <= page["reached"] <= after + 2, "a client that continues after `head` misses nothing"
        after = page["reached"]
        if page["end"]:
            break
    assert found == [f"form-{form}"]
    assert after == head.safe()
    full = poll(manager, after=start, limit=2)
    assert (full["end"], full["reached"]) == (False, full["items"][-1]["position"])


@pytest.mark.parametrize("query", ["after=-1", "after=x", f"after={2**63}", "limit=0", "limit=1001", "limit=x"])
def test_invalid_position_returns_400(manager: api_client.Caller, query: str) -> None:
    problem(manager.get(f"events/?{query}"), 400, "invalid_parameter")
    problem(manager.get(f"streams/user-{factories.user()}/?{query}"), 400, "invalid_parameter")


@pytest.mark.django_db(transaction=True)
def test_no_event_appears_below_a_returned_head(manager: api_client.Caller) -> None:
    start = head.safe()
    drawn, finish = threading.Event(), threading.Event()

    def slow_writer() -> None:
        with transaction.atomic():
            factories.user(first_name="Slow")
            drawn.set()
            assert finish.wait(30)

    writer = factories.Thread(slow_writer)
    assert drawn.wait(30)
    fast = factories.user(first_name="Fast")
    early = poll(manager, after=start)
    finish.set()
    writer.result()
    late = poll(manager, after=early["head"])
    seen = [event["data"]["first_name"] for event in early["items"] + late["items"]]
    assert sorted(seen) == ["Fast", "Slow"]
    assert len(store.read_stream(f"user-{fast}")) == 1
    assert connection.in_atomic_block is False


@pytest.mark.django_db(transaction=True)
def test_log_is_redacted(manager: api_client.Caller, monkeypatch: pytest.MonkeyPatch) -> None:

    start, key = head.safe(), factories.user(email="hidden@example.org")
    factories.hide(monkeypatch, "manager", "user", "email")
    response = manager.get(f"events/?after={start}")
    assert [event["stream"] for event in response.json()["items"]] == [f"user-{key}"]
    assert b"hidden@example.org" not in response.content
