"""A change of role, scope or key holds on the next request, also where the answer is cached: API, pages and sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from django.urls import reverse

from backoffice.models import ApiKey
from events import store
from metrics.caching import cache
from realtime import frames, publish
from tests import factories
from tests.backoffice import api_client
from tests.backoffice.api_client import Caller, problem
from tests.metrics.caching.simulated import Process
from tests.metrics.counters import counting
from tests.realtime import harness

pytestmark = pytest.mark.django_db(transaction=True)

DAY = "metrics/forms/?range=1d"
TIME = 30.0


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Process:
    """The process that answers, whose cache holds what it has read."""
    counting.receive(factories.form(), datetime.now(UTC), TIME)
    counting.follow()
    process = Process()
    monkeypatch.setattr(cache, "LOCAL", process.cache)
    return process


def average(caller: Caller) -> float | None:
    (row,) = caller.get(DAY).json()["items"]
    found: float | None = row["avg_completion_time"]
    return found


def hits(process: Process) -> int:
    return process.memory.sizes()["form-stats"].hits


def set_role(caller: Caller, role: str) -> None:
    """As another process would change it: this one is not notified."""
    assert caller.person
    store.execute("update staff set role = %s where id = %s", (role, caller.person.pk))


def test_role_decides_about_a_cached_answer_on_the_next_request(process: Process) -> None:
    caller = api_client.signed_in("manager")
    assert [average(caller) for _ in range(2)] == [TIME, TIME]
    assert hits(process) >= 1
    set_role(caller, "viewer")
    assert [average(caller) for _ in range(2)] == [None, None]
    set_role(caller, "manager")
    assert average(caller) == TIME


def test_role_decides_about_the_pages_with_cached_figures_on_the_next_request(process: Process) -> None:
    caller, figures, system = api_client.signed_in("manager"), reverse("admin:figures"), reverse("admin:system_cache")

    def page(address: str) -> Any:
        return caller.client.get(address)

    for _ in range(2):
        assert "30 s" in page(f"{figures}?range=7d").content.decode()
    assert hits(process) >= 1
    assert page(system).status_code == 200
    set_role(caller, "viewer")
    shown = page(f"{figures}?range=7d")
    assert shown.status_code == 200
    assert "30 s" not in shown.content.decode()
    assert page(system).status_code == 403


def test_deactivated_person_gets_no_cached_answer(process: Process) -> None:
    caller = api_client.signed_in("manager")
    average(caller)
    store.execute("update staff set is_active = false where id = %s", (caller.person.pk,))  # type: ignore[union-attr]
    assert caller.get(DAY).status_code in (401, 403)


def test_scope_decides_about_a_cached_answer_on_the_next_request(process: Process) -> None:
    reader = api_client.program("forms:read")
    assert [average(reader) for _ in range(2)] == [TIME, TIME]
    assert hits(process) >= 1
    problem(api_client.program("users:read").get(DAY), 403, "missing_scope")
    keys = ApiKey.objects.filter(owner=reader.person)
    keys.update(scopes=["users:read"])
    problem(reader.get(DAY), 403, "missing_scope")
    keys.update(scopes=["forms:read"])
    assert average(reader) == TIME
    set_role(reader, "viewer")  # the owner's
    assert average(reader) is None
    keys.update(revoked_at=datetime.now(UTC))
    assert reader.get(DAY).status_code == 401


# -- sockets ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def server(transactional_db: None) -> Iterator[harness.Server]:
    with harness.Server(look_every=0.05, recheck_every=3600.0, handshakes_per_minute=6000.0) as running:
        yield running


def push(key: str, number: int) -> None:
    assert publish.ephemeral("dashboard", "dashboard.widget.update", {"number": number}, key=key)


@pytest.mark.services
def test_socket_gets_no_value_that_its_new_role_may_not_see(server: harness.Server) -> None:
    person, session = harness.sign_in("manager")

    async def numbers(items: Any, upto: int) -> list[int]:
        found: list[int] = []
        async for item in items:
            if isinstance(item, frames.Ephemeral):
                together = item.data.get("updates", [{"data": item.data}])
                found += [one["data"]["number"] for one in together]
                if upto in found:
                    return found
        raise AssertionError("unreachable")

    async def scenario() -> None:
        with harness.writing() as writer:
            async with server.client(session) as live:
                await live.follow("dashboard", "settings")
                items = aiter(live)
                await harness.next_of(items, frames.Subscribed)
                await writer.do(push, "log", 1)
                assert await numbers(items, 1) == [1]
                await writer.do(store.execute, "update staff set role = 'viewer' where id = %s", (person.pk,))
                assert (await harness.next_of(items, frames.Reset)).topics == ["settings"]
                await writer.do(push, "log", 2)
                await writer.do(push, "figures", 3)
                assert 2 not in await numbers(items, 3)

    asyncio.run(asyncio.wait_for(scenario(), harness.TIMEOUT))
