"""Following the log: each effect once, one runner each, nothing lost when one of them dies."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

import pytest
from django.db import connection

from backoffice.domain.users import UserUpdated
from events import errors, head, store, subscriptions
from events.subscriptions import Subscription
from events.types import RecordedEvent, new_id
from tests import make

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def effects() -> Iterator[str]:
    """A table that a handler writes: its effect."""
    with connection.cursor() as cursor:
        cursor.execute("create table effects (position bigint, who text)")
    yield "effects"
    with connection.cursor() as cursor:
        cursor.execute("drop table effects")


def grow(count: int = 1) -> int:
    return [store.append(f"user-{new_id()}", [UserUpdated(first_name="Ada")]).position for _ in range(count)][-1]


def writes(who: str = "a"):
    def handle(batch: Sequence[RecordedEvent]) -> None:
        with connection.cursor() as cursor:
            cursor.executemany("insert into effects values (%s, %s)", [(event.position, who) for event in batch])

    return handle


def subscription(**fields) -> Subscription:
    return Subscription(
        **{"name": f"test-{new_id()}", "handle": writes(), "start": head.safe(), "poll": 0.05, **fields}
    )


def effect() -> list[int]:
    return [row[0] for row in store.query("select position from effects order by position")]


def stored(after: int) -> list[int]:
    return [row[0] for row in store.query("select position from events_event where position > %s order by 1", (after,))]


def catch_up(wanted: Subscription, owner: str = "a") -> subscriptions.Lease:
    lease = subscriptions.acquire(wanted, owner)
    assert lease is not None
    while subscriptions.step(wanted, owner, lease):
        pass
    return lease


def test_a_new_subscription_starts_where_it_says(effects: str) -> None:
    before = grow()
    now = subscription(start=None)
    earlier = subscription(start=before - 1, handle=writes("b"))
    catch_up(now)
    assert effect() == []
    catch_up(earlier)
    assert effect() == [before]


def test_a_batch_at_a_time_until_the_head_is_reached(effects: str) -> None:
    start = head.safe()
    wanted = subscription(batch=3)
    subscriptions.acquire(wanted, "a")
    grow(8)
    catch_up(wanted)
    assert effect() == stored(start)
    assert subscriptions.position(wanted.name) == head.safe()


def test_the_checkpoint_passes_over_events_of_other_types(effects: str) -> None:
    wanted = subscription(types=("user.deleted",))
    subscriptions.acquire(wanted, "a")
    top = grow(3)
    catch_up(wanted)
    assert effect() == []
    assert subscriptions.position(wanted.name) == top


def test_an_effect_that_fails_leaves_neither_effect_nor_progress(effects: str) -> None:
    start = head.safe()

    def fails(batch: Sequence[RecordedEvent]) -> None:
        writes()(batch)
        raise ValueError("after the effect")

    wanted = subscription(handle=fails)
    lease = subscriptions.acquire(wanted, "a")
    grow()
    with pytest.raises(ValueError, match="after"):
        subscriptions.step(wanted, "a", lease)
    assert effect() == []
    assert subscriptions.position(wanted.name) == start


def test_only_one_runner_has_the_lease() -> None:
    wanted = subscription()
    assert subscriptions.acquire(wanted, "a") is not None
    assert subscriptions.acquire(wanted, "b") is None
    subscriptions.release(wanted, "a")
    assert subscriptions.acquire(wanted, "b") is not None


def test_a_runner_that_was_paused_past_its_lease_cannot_write_over_its_heir(effects: str) -> None:
    wanted = subscription()
    paused = subscriptions.acquire(wanted, "a", seconds=0)
    grow(2)
    heir = subscriptions.acquire(wanted, "b")
    assert heir.fence > paused.fence
    subscriptions.step(wanted, "b", heir)
    with pytest.raises(errors.LeaseLost):
        subscriptions.step(wanted, "a", paused)
    assert len(effect()) == 2


def test_renewing_keeps_the_fence() -> None:
    wanted = subscription()
    first = subscriptions.acquire(wanted, "a")
    assert subscriptions.acquire(wanted, "a").fence == first.fence


def test_a_checkpoint_ahead_of_the_log_halts_and_says_so() -> None:
    wanted = subscription()
    lease = subscriptions.acquire(wanted, "a")
    lease.position = head.last() + 5
    with pytest.raises(errors.HistoryRewound, match="rewound"):
        subscriptions.step(wanted, "a", lease)


def test_a_runner_takes_over_when_the_other_dies(effects: str) -> None:
    start, stop = head.safe(), threading.Event()
    wanted = subscription()
    subscriptions.acquire(wanted, "dead runner", seconds=0.3)
    heir = make.Thread(lambda: subscriptions.run(wanted, stop, lease_seconds=0.5))
    top = grow(3)
    subscriptions.wait_for(wanted.name, top, timeout=20)
    stop.set()
    heir.result()
    assert effect() == stored(start)


def test_two_runners_at_once_have_each_effect_once(effects: str) -> None:
    start, stop = head.safe(), threading.Event()
    wanted = subscription(batch=2)
    runners = [make.Thread(lambda: subscriptions.run(wanted, stop, lease_seconds=0.2)) for _ in range(2)]
    top = grow(30)
    subscriptions.wait_for(wanted.name, top, timeout=30)
    stop.set()
    for runner in runners:
        runner.result()
    assert effect() == stored(start)


def test_a_runner_survives_a_handler_that_fails_and_a_connection_that_breaks(effects: str) -> None:
    start, stop, failed = head.safe(), threading.Event(), threading.Event()

    def fails_once(batch: Sequence[RecordedEvent]) -> None:
        writes()(batch)
        if not failed.is_set():
            failed.set()
            store.query("select pg_terminate_backend(pg_backend_pid())")

    wanted = subscription(handle=fails_once)
    runner = make.Thread(lambda: subscriptions.run(wanted, stop))
    top = grow(2)
    subscriptions.wait_for(wanted.name, top, timeout=20)
    stop.set()
    runner.result()
    assert failed.is_set()
    assert effect() == stored(start)


def test_the_active_runner_ticks() -> None:
    stop, ticked = threading.Event(), threading.Event()
    wanted = subscription(handle=lambda _: None, tick=lambda _: ticked.set())
    runner = make.Thread(lambda: subscriptions.run(wanted, stop))
    assert ticked.wait(20)
    stop.set()
    runner.result()


def test_stopping_gives_the_lease_back() -> None:
    stop = threading.Event()
    wanted = subscription(handle=lambda _: None)
    runner = make.Thread(lambda: subscriptions.run(wanted, stop))
    subscriptions.wait_for(wanted.name, grow(), timeout=20)
    stop.set()
    runner.result()
    assert store.query("select owner from events_checkpoint where name = %s", (wanted.name,)) == [(None,)]


def test_waiting_for_a_projection_that_does_not_come_ends_with_an_error() -> None:
    began = time.monotonic()
    with pytest.raises(errors.WaitTimeout):
        subscriptions.wait_for("nobody runs this", 1, timeout=0.05)
    assert time.monotonic() - began >= 0.05
