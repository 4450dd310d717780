"""Subscriptions: each effect once, one active runner each, no event lost when a runner dies."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from backoffice.sections.users.domain import UserUpdated
from devtools import processes
from events import errors, head, store
from events.subscriptions import checkpoints, progress, status
from events.subscriptions import runner as subscriptions
from events.types import RecordedEvent, new_id
from tests import factories
from tests.events import effects as following
from tests.events.effects import catch_up, effect, grow, stored, subscription, writes

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def effects() -> Iterator[str]:
    with following.effects() as table:
        yield table


def test_new_subscription_starts_at_its_declared_position(effects: str) -> None:
    before = grow()
    now = subscription(start=None)
    earlier = subscription(start=before - 1, handle=writes("b"))
    catch_up(now)
    assert effect() == []
    catch_up(earlier)
    assert effect() == [before]


def test_subscription_reads_batches_until_the_head(effects: str) -> None:
    start = head.safe()
    wanted = subscription(batch=3)
    subscriptions.acquire(wanted, "a")
    grow(8)
    catch_up(wanted)
    assert effect() == stored(start)
    assert progress.position(wanted.name) == head.safe()


def test_error_is_forgotten_by_the_next_turn_that_succeeds_also_without_events() -> None:
    """Else an installation without traffic would be reported as failing for hours after an outage."""
    turns, seen, stop = [], threading.Event(), threading.Event()

    def tick(_position: int) -> None:
        turns.append(1)
        if len(turns) == 1:
            raise ConnectionError("outage")
        assert seen.wait(30)

    wanted = subscription(start=None, tick=tick)
    state = "select error from events_checkpoint where name = %s"
    runner = factories.Thread(lambda: subscriptions.run(wanted, stop))
    assert processes.wait_until(lambda: store.query(state, (wanted.name,)) == [("ConnectionError: outage",)], 30)
    seen.set()
    assert processes.wait_until(lambda: store.query(state, (wanted.name,)) == [(None,)], 30)
    stop.set()
    runner.result()


def test_checkpoint_skips_events_of_other_types(effects: str) -> None:
    wanted = subscription(types=("user.deleted",))
    subscriptions.acquire(wanted, "a")
    top = grow(3)
    catch_up(wanted)
    assert effect() == []
    assert progress.position(wanted.name) == top


def test_failed_handler_leaves_neither_effect_nor_progress(effects: str) -> None:
    start = head.safe()

    def fails(batch: Sequence[RecordedEvent]) -> None:
        writes()(batch)
        raise ValueError("after the effect")

    wanted = subscription(handle=fails, park=False)
    lease = subscriptions.acquire(wanted, "a")
    grow()
    with pytest.raises(ValueError, match="after"):
        subscriptions.step(wanted, "a", lease)
    assert effect() == []
    assert progress.position(wanted.name) == start


def test_publish_gets_all_events_after_the_checkpoint_and_repeats_them_after_a_failure(effects: str) -> None:
    published: list[tuple[int, list[int]]] = []

    def publish(lease: checkpoints.Lease, batch: Sequence[RecordedEvent]) -> None:
        assert not connection.in_atomic_block, "nobody's lock is held meanwhile"
        published.append((lease.position, [event.position for event in batch]))
        if len(published) == 1:
            raise OSError("no line")

    wanted = subscription(handle=None, publish=publish, park=False, batch=3)
    start = head.safe()
    lease = subscriptions.acquire(wanted, "a")
    assert lease is not None
    grow(4)
    with pytest.raises(OSError, match="no line"):
        subscriptions.step(wanted, "a", lease)
    assert progress.position(wanted.name) == lease.position == start, "the checkpoint has not moved"
    while subscriptions.step(wanted, "a", lease):
        pass
    first, *again = published
    assert again[0] == first
    assert [position for _, batch in again for position in batch] == stored(start)
    assert [after for after, _ in again] == [start, *(batch[-1] for _, batch in again[:-1])], "each joins up"


def test_replaced_runner_publishes_stored_events_and_moves_no_checkpoint(effects: str) -> None:
    published: list[int] = []

    def publish(_lease: checkpoints.Lease, batch: Sequence[RecordedEvent]) -> None:
        published.extend(event.position for event in batch)

    start = head.safe()
    wanted = subscription(handle=None, publish=publish, park=False)
    lease = subscriptions.acquire(wanted, "a", seconds=0.0)
    assert lease is not None
    grow()
    heir = subscriptions.acquire(wanted, "b")
    assert heir is not None
    with pytest.raises(errors.LeaseLost):
        subscriptions.step(wanted, "a", lease)
    assert progress.position(wanted.name) == heir.position == start
    subscriptions.step(wanted, "b", heir)
    assert published == 2 * stored(start)


@pytest.mark.parametrize("wrong", [{}, {"handle": print, "publish": print, "park": False}, {"publish": print}])
def test_subscription_needs_either_handle_or_publish(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="either `handle`, or `publish`"):
        checkpoints.Subscription(name="x", **wrong)


def test_commit_waits_for_the_disk_only_if_the_handler_appends(effects: str) -> None:
    """A crash undoes effect and checkpoint together, and both are repeated; a visible event must not disappear."""
    seen: list[str] = []

    def handle(batch: Sequence[RecordedEvent]) -> None:
        seen.append(waits_for_disk())
        if len(seen) == 1:
            store.append(f"user-{new_id()}", [UserUpdated(first_name="Ada")])
            seen.append(waits_for_disk())

    wanted = subscription(handle=handle)
    lease = subscriptions.acquire(wanted, "a")
    store.execute("set synchronous_commit to on")
    try:
        grow()
        subscriptions.step(wanted, "a", lease)
        subscriptions.step(wanted, "a", lease)  # the events that the handler itself appended
        assert seen == ["off", "on", "off"]
        assert waits_for_disk() == "on"
        with transaction.atomic():  # the setting does not affect other transactions
            grow()
            subscriptions.step(wanted, "a", lease, upto=head.last())
            assert waits_for_disk() == "on"
    finally:
        store.execute("reset synchronous_commit")


def waits_for_disk() -> str:
    return store.query("show synchronous_commit")[0][0]


def test_only_one_runner_has_the_lease() -> None:
    wanted = subscription()
    assert subscriptions.acquire(wanted, "a") is not None
    assert subscriptions.acquire(wanted, "b") is None
    subscriptions.release(wanted, "a")
    assert subscriptions.acquire(wanted, "b") is not None


def test_runner_paused_past_its_lease_cannot_overwrite_its_successor(effects: str) -> None:
    wanted = subscription()
    paused = subscriptions.acquire(wanted, "a", seconds=0)
    grow(2)
    heir = subscriptions.acquire(wanted, "b")
    assert heir.fence > paused.fence
    subscriptions.step(wanted, "b", heir)
    with pytest.raises(errors.LeaseLost):
        subscriptions.step(wanted, "a", paused)
    assert len(effect()) == 2


def test_runner_hanging_in_its_handler_blocks_no_takeover(effects: str) -> None:
    """The runner hangs after its effect and before its commit; its successor does not wait for it."""
    inside, go_on = threading.Event(), threading.Event()

    def hangs(batch: Sequence[RecordedEvent]) -> None:
        writes("hung")(batch)
        inside.set()
        assert go_on.wait(60)

    hung = subscription(handle=hangs)
    lease = subscriptions.acquire(hung, "a", seconds=0)
    grow(3)
    thread = factories.Thread(lambda: subscriptions.step(hung, "a", lease))
    assert inside.wait(20)
    catch_up(subscription(name=hung.name, handle=writes("heir")), "b")
    assert len(effect("heir")) == 3
    go_on.set()
    with pytest.raises(errors.LeaseLost):
        thread.result()
    assert effect("hung") == []


def test_renewed_lease_keeps_its_fence() -> None:
    wanted = subscription()
    first = subscriptions.acquire(wanted, "a")
    assert subscriptions.acquire(wanted, "a").fence == first.fence


def test_checkpoint_ahead_of_the_log_halts_with_an_error() -> None:
    wanted = subscription()
    lease = subscriptions.acquire(wanted, "a")
    lease.position = head.last() + 5
    with pytest.raises(errors.HistoryRewound, match="rewound"):
        subscriptions.step(wanted, "a", lease)


def test_runner_takes_over_when_the_other_is_killed(effects: str) -> None:
    start, stop = head.safe(), threading.Event()
    wanted = subscription()
    subscriptions.acquire(wanted, "dead runner", seconds=0.3)
    heir = factories.Thread(lambda: subscriptions.run(wanted, stop, lease_seconds=0.5))
    top = grow(3)
    progress.wait_for(wanted.name, top, timeout=20)
    stop.set()
    heir.result()
    assert effect() == stored(start)


def test_concurrent_runners_have_each_effect_once(effects: str) -> None:
    start, stop = head.safe(), threading.Event()
    wanted = subscription(batch=2)
    runners = [factories.Thread(lambda: subscriptions.run(wanted, stop, lease_seconds=0.2)) for _ in range(2)]
    top = grow(30)
    progress.wait_for(wanted.name, top, timeout=30)
    stop.set()
    for runner in runners:
        runner.result()
    assert effect() == stored(start)


def test_runner_survives_a_failing_handler_and_a_broken_connection(effects: str) -> None:
    start, stop, failed = head.safe(), threading.Event(), threading.Event()

    def fails_once(batch: Sequence[RecordedEvent]) -> None:
        writes()(batch)
        if not failed.is_set():
            failed.set()
            store.query("select pg_terminate_backend(pg_backend_pid())")

    wanted = subscription(handle=fails_once)
    runner = factories.Thread(lambda: subscriptions.run(wanted, stop))
    top = grow(2)
    progress.wait_for(wanted.name, top, timeout=20)
    stop.set()
    runner.result()
    assert failed.is_set()
    assert effect() == stored(start)


def test_tick_is_called_by_the_active_runner() -> None:
    stop, ticked = threading.Event(), threading.Event()
    wanted = subscription(handle=lambda _: None, tick=lambda _: ticked.set())
    runner = factories.Thread(lambda: subscriptions.run(wanted, stop))
    assert ticked.wait(20)
    stop.set()
    runner.result()


def test_stopped_runner_releases_its_lease() -> None:
    stop = threading.Event()
    wanted = subscription(handle=lambda _: None)
    runner = factories.Thread(lambda: subscriptions.run(wanted, stop))
    progress.wait_for(wanted.name, grow(), timeout=20)
    stop.set()
    runner.result()
    assert store.query("select owner from events_checkpoint where name = %s", (wanted.name,)) == [(None,)]


def test_wait_for_raises_wait_timeout() -> None:
    began = time.monotonic()
    with pytest.raises(errors.WaitTimeout):
        progress.wait_for("nobody runs this", 1, timeout=0.05)
    assert time.monotonic() - began >= 0.05


# -- partitions -----------------------------------------------------------------------------------------------------


def test_python_and_sql_compute_the_same_partition_of_a_stream() -> None:
    streams = [f"user-{new_id()}" for _ in range(50)] + ["setting-ключ", "form-"]
    sql = """select ('x' || substr(md5(s), 1, 8))::bit(32)::bigint %% 7
               from unnest(%s::text[]) with ordinality u(s, n) order by n"""
    assert [row[0] for row in store.query(sql, (streams,))] == [checkpoints.partition_of(s, 7) for s in streams]
    assert [checkpoints.partition_of(f"user-{n}", 4) for n in range(8)] == [3, 3, 0, 2, 3, 1, 1, 1]  # for ever


def test_partitions_share_the_streams_and_keep_the_order_of_each(effects: str) -> None:
    start, stop = head.safe(), threading.Event()
    wanted = subscription(partitions=3, batch=4)
    streams = [f"user-{new_id()}" for _ in range(9)]
    runners = [
        factories.Thread(lambda n=n: subscriptions.run(wanted, stop, lease_seconds=0.5, partition=n))
        for n in (0, 1, 2, 0, 1)
    ]
    progress.wait_for(wanted, grow(120, streams), timeout=60)
    stop.set()
    for runner in runners:
        runner.result()
    assert effect() == stored(start)
    assert following.out_of_order() == []


def test_each_partition_handles_only_its_own_streams(effects: str) -> None:
    start = head.safe()
    wanted = subscription(partitions=2)
    grow(20)
    catch_up(wanted, partition=0)
    mine = {row[0] for row in store.query("select stream from effects")}
    assert mine
    assert {wanted.checkpoint_of(stream) for stream in mine} == {f"{wanted.name}/0"}
    catch_up(wanted, partition=1)
    assert effect() == stored(start)


def test_wait_for_covers_partitions_that_have_not_begun(effects: str) -> None:
    wanted = subscription(partitions=2)
    top = grow(5)
    catch_up(wanted, partition=1)
    with pytest.raises(errors.WaitTimeout):
        progress.wait_for(wanted, top, timeout=0.05)
    with pytest.raises(errors.WaitTimeout):
        progress.wait_for(wanted.name, top, timeout=0.05)
    catch_up(wanted, partition=0)
    progress.wait_for(wanted, top, timeout=0)
    progress.wait_for(wanted.name, top, timeout=0)


def test_effect_is_visible_after_wait_for(effects: str) -> None:
    """`wait_for` guarantees the effect, not only the checkpoint."""
    stop, rng = threading.Event(), random.Random(4)
    wanted = subscription(batch=5)
    runner = factories.Thread(lambda: subscriptions.run(wanted, stop))
    for _ in range(12):
        top = grow(rng.randint(1, 8))
        progress.wait_for(wanted.name, top, timeout=30)
        assert effect()[-1] >= top
    stop.set()
    runner.result()


def test_number_of_partitions_changes_only_at_rest(effects: str) -> None:
    start = head.safe()
    two = subscription(partitions=2)
    grow(10)
    catch_up(two, partition=0)
    for number, checkpoint in enumerate(two.checkpoints):
        subscriptions.release(two, "a", partition=number)
        assert checkpoint == f"{two.name}/{number}"
    three = subscription(name=two.name, partitions=3)
    with pytest.raises(errors.PartitionsDiffer, match=f"{two.name}/1 at {start}"):
        subscriptions.acquire(three, "b")
    top = subscriptions.align_partitions(two)
    assert top == progress.position(two)
    grow(10)
    for number in range(3):
        catch_up(three, "b", partition=number)
    assert effect() == stored(start)
    assert following.out_of_order() == []


def test_number_of_partitions_does_not_change_under_a_runner(effects: str) -> None:
    two = subscription(partitions=2)
    lease = subscriptions.acquire(two, "a", partition=1)
    with pytest.raises(errors.PartitionsDiffer, match="running"):
        subscriptions.acquire(subscription(name=two.name), "b")
    grow()
    subscriptions.step(two, "a", lease)


def test_paused_runner_of_the_old_partitions_cannot_write(effects: str) -> None:
    two = subscription(partitions=2)
    paused = subscriptions.acquire(two, "a", seconds=0)
    one = subscription(name=two.name)
    heir = subscriptions.acquire(one, "b")
    grow(6)
    with pytest.raises(errors.LeaseLost):
        subscriptions.step(two, "a", paused)
    assert effect() == []
    subscriptions.step(one, "b", heir)
    assert len(effect()) == 6


def test_name_with_a_slash_is_rejected() -> None:
    with pytest.raises(ValueError, match="slash"):
        subscription(name="a/0")


# -- status ---------------------------------------------------------------------------------------------------------


def test_status_shows_position_lag_owner_and_error(effects: str) -> None:
    wanted = subscription()
    subscriptions.acquire(wanted, "a")
    grow(3)
    subscriptions._record_error(wanted.name, ValueError("seen"))
    shown = next(one for one in status.checkpoint_statuses() if one.name == wanted.name)
    assert (shown.owner, shown.error, shown.parked) == ("a", "ValueError: seen", 0)
    assert shown.lag == shown.head - shown.position == head.safe() - wanted.start
    catch_up(wanted)
    shown = next(one for one in status.checkpoint_statuses() if one.name == wanted.name)
    assert (shown.lag, shown.error) == (0, None)


def test_status_shows_no_owner_once_the_lease_expired() -> None:
    wanted = subscription()
    subscriptions.acquire(wanted, "dead", seconds=0)
    assert next(one for one in status.checkpoint_statuses() if one.name == wanted.name).owner is None


def test_status_shows_registered_subscriptions_that_have_not_begun() -> None:
    relay = next(one for one in subscriptions.registered() if one.name == "relay")
    store.execute("delete from events_checkpoint where name = 'relay'")
    assert not relay.park
    assert next(one for one in status.checkpoint_statuses() if one.name == "relay").lag == head.safe()


def test_command_rejects_an_undeclared_subscription() -> None:
    with pytest.raises(CommandError, match="No subscription is called nobody"):
        call_command("run_subscriptions", "nobody")


# -- kills ----------------------------------------------------------------------------------------------------------


@pytest.mark.services
@pytest.mark.parametrize("partitions", [1, 2])
def test_every_effect_happens_once_when_runners_are_killed_under_load(effects: str, partitions: int) -> None:
    """Each event takes effect exactly once, and each stream in order, as the log says.

    Each round kills the process that has just reported an effect, before its commit.
    """
    rng, start, stop, more = random.Random(20 + partitions), head.safe(), threading.Event(), threading.Semaphore(20)
    name, streams = f"killed-{partitions}", [f"user-{new_id()}" for _ in range(12)]
    store.execute("delete from events_checkpoint where split_part(name, '/', 1) = %s", (name,))

    def load() -> int:
        top = 0
        while not stop.is_set():
            top = grow(3, rng.sample(streams, 3))
            more.acquire(timeout=0.2)  # the writer is as fast as the runners, or a little faster
        return top

    writer = factories.Thread(load)
    try:
        for _ in range(2):
            process = following.start_process(following.RUN, name, start, partitions)
            said = []
            for _ in range(rng.randint(3, 12)):
                said.append(process.stdout.readline())
                more.release(4)
            process.kill()
            process.wait()
            process.stdout.close()
            assert any(line.strip().isdigit() for line in said), said
    finally:
        stop.set()
    top = writer.result()
    last = following.start_process(following.RUN, name, start, partitions)
    progress.wait_for(subscription(name=name, partitions=partitions), top, timeout=90)
    last.terminate()
    last.communicate()
    assert last.returncode == 0
    assert effect(name) == stored(start)
    assert following.out_of_order() == []
