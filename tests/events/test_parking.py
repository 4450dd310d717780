"""Poison events: only their stream is parked, no effect is repeated, and a person replays or skips them."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence

import pytest
from django.db import transaction

from events import context, errors, head, store
from events.subscriptions import parked, progress, status
from events.subscriptions import runner as subscriptions
from events.types import RecordedEvent, new_id
from tests import factories
from tests.events import effects as following
from tests.events.effects import catch_up, effect, fails_on, grow, stored, subscription, write

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def effects() -> Iterator[str]:
    with following.effects() as table:
        yield table


def streams(count: int) -> list[str]:
    return [f"user-{new_id()}" for _ in range(count)]


def waiting(name: str) -> list[int]:
    return [
        row[0] for row in store.query("select position from events_parked where subscription = %s order by 1", (name,))
    ]


def audit(name: str) -> list[RecordedEvent]:
    return store.read_stream(f"subscription-{name}")


# -- the runner -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_only_failing_streams_are_parked_and_other_events_take_effect_once(effects: str, seed: int) -> None:
    rng, start = random.Random(seed), head.safe()
    names = streams(rng.randint(2, 10))
    bad = set(rng.sample(names, rng.randint(1, len(names) - 1)))
    failing = fails_on(
        lambda event: event.stream in bad and event.version == 1
    )  # later events of the stream would succeed
    wanted = subscription(handle=failing, batch=rng.choice([1, 3, 8, 100]))
    subscriptions.acquire(wanted, "a")
    top = grow(rng.randint(20, 60), names)
    catch_up(wanted)
    of = dict(store.query("select position, stream from events_event where position > %s", (start,)))
    assert effect() == sorted(position for position, stream in of.items() if stream not in bad)
    assert waiting(wanted.name) == sorted(position for position, stream in of.items() if stream in bad)
    assert following.out_of_order() == []
    assert progress.position(wanted.name) == top


def test_parked_stream_shows_the_failed_event_and_the_number_waiting(effects: str) -> None:
    wanted = subscription(handle=fails_on(lambda event: True))
    [name] = streams(1)
    grow(4, [name])
    catch_up(wanted)
    [shown] = parked.parked(wanted.name)
    assert (shown.stream, shown.version, shown.type, shown.waiting) == (name, 1, "user.updated", 3)
    assert shown.error == f"ValueError: cannot handle {shown.position}"
    assert "in handle" in shown.traceback
    assert shown.attempts == 1
    assert next(one for one in status.checkpoint_statuses() if one.name == wanted.name).parked == 1


def test_events_that_fail_only_together_are_handled_separately(effects: str) -> None:
    start = head.safe()

    def fails_on_two(events: Sequence[RecordedEvent]) -> None:
        write(events)
        if len(events) > 1:
            raise ValueError("one at a time")

    wanted = subscription(handle=fails_on_two)
    grow(7)
    catch_up(wanted)
    assert effect() == stored(start)
    assert parked.parked(wanted.name) == []


@pytest.mark.parametrize("dies_at", range(5))
def test_runner_killed_between_half_batches_loses_and_repeats_nothing(effects: str, dies_at: int) -> None:
    start, died = head.safe(), threading.Event()

    def one_at_a_time(events: Sequence[RecordedEvent]) -> None:
        write(events)
        if len(events) > 1:
            raise ValueError("one at a time")
        if events[0].position == start + 1 + dies_at and not died.is_set():
            died.set()
            store.query("select pg_terminate_backend(pg_backend_pid())")

    wanted = subscription(handle=one_at_a_time)
    lease = subscriptions.acquire(wanted, "a")
    grow(5)
    with pytest.raises(errors.StoreUnavailable):
        subscriptions.step(wanted, "a", lease)
    assert len(effect()) == dies_at
    catch_up(wanted)
    assert effect() == stored(start)
    assert parked.parked(wanted.name) == []


def test_event_that_breaks_a_constraint_parks_its_stream(effects: str) -> None:
    """The error is PostgreSQL's and aborts the transaction; the runner continues."""
    store.execute("create unique index one_each on effects (stream)")
    wanted = subscription()
    busy, quiet = streams(2)
    grow(1, [quiet])
    grow(3, [busy])
    top = grow(2)
    catch_up(wanted)
    [shown] = parked.parked(wanted.name)
    assert (shown.stream, shown.version, shown.waiting) == (busy, 2, 1)
    assert "UniqueViolation" in shown.traceback
    assert effect()[-1] == top


def test_temporary_errors_are_retried_and_park_nothing(effects: str) -> None:
    """A real serialization failure of PostgreSQL that does not occur again."""
    start, tries = head.safe(), []

    def fails_twice(events: Sequence[RecordedEvent]) -> None:
        write(events)
        tries.append(len(events))
        if len(tries) < 3:
            store.query("do $$ begin raise exception 'again' using errcode = '40001'; end $$")

    wanted = subscription(handle=fails_twice)
    grow(3)
    catch_up(wanted)
    assert tries == [3, 3, 3]
    assert effect() == stored(start)
    assert parked.parked(wanted.name) == []


def test_deadlock_parks_nothing(effects: str) -> None:
    """The handler and another transaction lock two rows in opposite order; the handler loses once."""
    start = head.safe()
    store.execute("create table two_rows as select n from generate_series(1, 2) n")
    ours, theirs, tries = threading.Event(), threading.Event(), []
    lock = "select n from two_rows where n = %s for update"

    def other_transaction() -> None:
        with transaction.atomic():
            store.execute("set local deadlock_timeout = '1min'")
            store.query(lock, (2,))
            theirs.set()
            assert ours.wait(20)
            store.query(lock, (1,))

    def deadlocks_once(events: Sequence[RecordedEvent]) -> None:
        write(events)
        tries.append(len(events))
        store.execute("set local deadlock_timeout = '10ms'")
        store.query(lock, (1,))
        ours.set()
        assert theirs.wait(20)
        store.query(lock, (2,))

    wanted = subscription(handle=deadlocks_once)
    grow(2)
    thread = factories.Thread(other_transaction)
    try:
        assert theirs.wait(20)
        catch_up(wanted)
        thread.result()
    finally:
        store.execute("drop table two_rows")
    assert len(tries) == 2
    assert effect() == stored(start)
    assert parked.parked(wanted.name) == []


@pytest.mark.parametrize(
    "broken", ["select 1 from a_table_of_the_next_release", "select pg_terminate_backend(pg_backend_pid())"]
)
def test_systemic_errors_park_nothing_and_move_no_checkpoint(effects: str, broken: str) -> None:
    start = head.safe()

    def fails(events: Sequence[RecordedEvent]) -> None:
        write(events)
        store.query(broken)

    wanted = subscription(handle=fails)
    lease = subscriptions.acquire(wanted, "a")
    grow(3)
    with pytest.raises(Exception, match=r"does not exist|cannot be reached"):
        subscriptions.step(wanted, "a", lease)
    assert parked.parked(wanted.name) == []
    assert effect() == []
    assert progress.position(wanted.name) == start


def test_subscription_halts_at_max_parked_streams(effects: str) -> None:
    wanted = subscription(handle=fails_on(lambda event: True), max_parked=3, batch=4)
    lease = subscriptions.acquire(wanted, "a")
    grow(10)
    with pytest.raises(errors.TooManyParked, match="3 streams parked"):
        while subscriptions.step(wanted, "a", lease):
            pass
    assert len(parked.parked(wanted.name)) == 3
    assert progress.position(wanted.name) == waiting(wanted.name)[-1]
    assert effect() == []


def test_halted_subscription_records_the_error_and_continues_below_the_limit(effects: str) -> None:
    stop, mended, halted = threading.Event(), threading.Event(), threading.Event()

    def handle(events: Sequence[RecordedEvent]) -> None:
        write(events)
        if not mended.is_set():
            raise ValueError("not yet")

    def signal_error(checkpoint: str, error: Exception) -> None:
        note(checkpoint, error)
        if isinstance(error, errors.TooManyParked):
            halted.set()

    wanted, note = subscription(handle=handle, max_parked=1), subscriptions._record_error
    start, top = head.safe(), grow(3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subscriptions, "_record_error", signal_error)  # signals the error, so that the test need not poll
        runner = factories.Thread(lambda: subscriptions.run(wanted, stop))
        assert halted.wait(20)
        assert "1 streams parked" in next(s.error for s in status.checkpoint_statuses() if s.name == wanted.name)
        mended.set()
        progress.wait_for(wanted, top, timeout=30)
    stop.set()
    runner.result()
    [shown] = parked.parked(wanted.name)
    assert parked.replay(wanted, shown.stream).left == 0
    assert effect() == stored(start, top)


def test_runner_without_its_lease_parks_nothing(effects: str) -> None:
    wanted = subscription(handle=fails_on(lambda event: True))
    paused = subscriptions.acquire(wanted, "a", seconds=0)
    grow()
    subscriptions.acquire(wanted, "b")
    with pytest.raises(errors.LeaseLost):
        subscriptions.step(wanted, "a", paused)
    assert parked.parked(wanted.name) == []


def test_stream_parked_by_one_subscription_continues_in_another(effects: str) -> None:
    start = head.safe()
    fails, works = (
        subscription(handle=fails_on(lambda event: True, "fails")),
        subscription(handle=following.writes("works")),
    )
    grow(3)
    catch_up(fails)
    catch_up(works)
    assert effect("works") == stored(start)
    assert effect("fails") == []


def test_partition_parks_only_its_own_streams(effects: str) -> None:
    start, bad = head.safe(), streams(1)[0]
    wanted = subscription(handle=fails_on(lambda event: event.stream == bad), partitions=3)
    names = [bad, *streams(5)]
    grow(18, names)
    for number in range(3):
        catch_up(wanted, partition=number)
    assert len(waiting(wanted.name)) == 3
    assert {s.name: s.parked for s in status.checkpoint_statuses() if s.name.startswith(wanted.name)} == {
        checkpoint: int(checkpoint == wanted.checkpoint_of(bad)) for checkpoint in wanted.checkpoints
    }
    assert sorted([*effect(), *waiting(wanted.name)]) == stored(start)


# -- the person -----------------------------------------------------------------------------------------------------


def parked_stream(count: int = 4, **fields):
    """A subscription with one parked stream, the set of positions that still fail, and the stream."""
    bad: set[int] = set()
    wanted = subscription(handle=fails_on(lambda event: not bad or event.position in bad), **fields)
    [name] = streams(1)
    grow(count, [name])
    catch_up(wanted)
    bad.add(-1)
    return wanted, bad, name


def test_replay_handles_waiting_events_in_order_and_unparks_the_stream(effects: str) -> None:
    wanted, _, name = parked_stream(4)
    assert parked.replay(wanted, name) == parked.Outcome(handled=4, left=0)
    assert following.out_of_order() == []
    assert parked.parked(wanted.name) == []
    grow(2, [name])
    catch_up(wanted)
    handled = store.query("select position from effects where stream = %s order by n", (name,))
    assert handled == store.query("select position from events_event where stream = %s order by version", (name,))
    assert len(handled) == 6


def test_replay_stops_at_an_event_that_still_fails_and_reports_it(effects: str) -> None:
    wanted, bad, name = parked_stream(5)
    third = waiting(wanted.name)[2]
    bad.add(third)
    outcome = parked.replay(wanted, name)
    assert (outcome.handled, outcome.left, outcome.error) == (2, 3, f"ValueError: cannot handle {third}")
    [shown] = parked.parked(wanted.name)
    assert (shown.position, shown.attempts, shown.waiting, shown.error) == (third, 1, 2, outcome.error)
    assert parked.replay(wanted, name).handled == 0
    assert parked.parked(wanted.name)[0].attempts == 2
    bad.discard(third)
    assert parked.replay(wanted, name) == parked.Outcome(handled=3, left=0)
    assert len(effect()) == 5


def test_skip_removes_one_event_and_the_others_still_wait(effects: str) -> None:
    wanted, bad, name = parked_stream(3)
    first, second, third = waiting(wanted.name)
    bad.add(first)
    with context.acting(actor="staff:7"):
        parked.skip(wanted, name, first, "its form never existed")
    assert waiting(wanted.name) == [second, third]
    assert parked.parked(wanted.name)[0].error is None
    assert effect() == []
    assert parked.replay(wanted, name) == parked.Outcome(handled=2, left=0)
    assert effect() == [second, third]


def test_skip_of_the_last_event_unparks_the_stream(effects: str) -> None:
    wanted, _, name = parked_stream(1)
    parked.skip(wanted, name, waiting(wanted.name)[0], "a test")
    top = grow(1, [name])
    catch_up(wanted)
    assert effect()[-1] == top
    assert parked.parked(wanted.name) == []


def test_replay_and_skip_are_recorded_with_actor_and_reason(effects: str) -> None:
    wanted, _, name = parked_stream(2)
    first, second = waiting(wanted.name)
    with context.acting(actor="staff:7"):
        parked.skip(wanted, name, first, "  its form never existed ")
    with context.acting(actor="staff:8", reason="handler mended"):
        parked.replay(wanted, name)
    skipped, replayed = audit(wanted.name)
    assert (skipped.actor, skipped.reason, skipped.type) == (
        "staff:7",
        "its form never existed",
        "subscription.skipped",
    )
    assert skipped.event == parked.SubscriptionSkipped(stream=name, position=first, attempts=1)
    assert (replayed.actor, replayed.reason, replayed.type) == ("staff:8", "handler mended", "subscription.replayed")
    assert replayed.event == parked.SubscriptionReplayed(stream=name, position=second, attempts=1)


def test_failed_replay_leaves_no_effect_and_no_event(effects: str) -> None:
    wanted, bad, name = parked_stream(1)
    bad.update(waiting(wanted.name))
    parked.replay(wanted, name)
    assert effect() == []
    assert audit(wanted.name) == []


def test_skip_requires_a_reason_and_a_parked_event(effects: str) -> None:
    wanted, _, name = parked_stream(1)
    [position] = waiting(wanted.name)
    with pytest.raises(errors.InvalidCommand):
        parked.skip(wanted, name, position, "  ")
    with pytest.raises(errors.NotParked):
        parked.skip(wanted, name, position + 1, "a test")
    with pytest.raises(errors.NotParked):
        parked.replay(wanted, streams(1)[0])
    with pytest.raises(errors.UnknownSubscription):
        parked.replay("nobody declared this", name)
    assert waiting(wanted.name) == [position]


def test_replays_beside_a_runner_lose_and_repeat_nothing(effects: str) -> None:
    """Replays race a running subscription while the stream grows: each event once, in order, none left waiting."""
    start, stop = head.safe(), threading.Event()
    rng, broken = random.Random(9), threading.Event()
    handler = fails_on(lambda event: broken.is_set() and event.stream == name)
    wanted, [name] = subscription(handle=handler, batch=3), streams(1)
    others = streams(3)
    runner = factories.Thread(lambda: subscriptions.run(wanted, stop))
    for _ in range(8):
        broken.set()
        progress.wait_for(wanted, grow(rng.randint(2, 6), [name, *others]), timeout=30)
        broken.clear()
        grower = factories.Thread(lambda: grow(12, [name, others[0]]))
        for shown in parked.parked(wanted.name):
            parked.replay(wanted, shown.stream)
        progress.wait_for(wanted, grower.result(), timeout=30)
    stop.set()
    runner.result()
    for shown in parked.parked(wanted.name):
        parked.replay(wanted, shown.stream)
    own = f"subscription-{wanted.name}"
    assert following.out_of_order() == []
    replayed = {event.position for event in audit(wanted.name)}
    assert [p for p in effect() if p not in replayed] == [p for p in stored(start) if p not in replayed]
    assert own not in {shown.stream for shown in parked.parked(wanted.name)}


def test_event_does_not_wait_when_its_stream_is_unparked_meanwhile(effects: str) -> None:
    """The runner reads that the stream is parked; a person unparks it meanwhile; the runner must check again."""
    wanted, _, name = parked_stream(1)
    busy, released = threading.Event(), threading.Event()

    def slow(events: Sequence[RecordedEvent]) -> None:
        write(events)
        busy.set()
        assert released.wait(30)

    grow(4, [name, *streams(1)])
    runner_side = subscription(name=wanted.name, handle=slow)
    runner = factories.Thread(lambda: catch_up(runner_side))
    assert busy.wait(20)
    assert parked.replay(wanted, name) == parked.Outcome(handled=1, left=0)
    released.set()
    runner.result()
    assert parked.parked(wanted.name) == []
    assert following.out_of_order() == []
    handled = [row[0] for row in store.query("select position from effects where stream = %s order by n", (name,))]
    assert len(handled) == len(set(handled)) == 3


def test_concurrent_replays_handle_each_event_once(effects: str) -> None:
    wanted, _, name = parked_stream(12)
    people = [factories.Thread(lambda: parked.replay(wanted, name)) for _ in range(3)]
    outcomes = []
    for person in people:
        try:
            outcomes.append(person.result())
        except errors.NotParked:
            continue  # appended after the others were handled
    assert sum(outcome.handled for outcome in outcomes) == 12
    assert {outcome.error for outcome in outcomes} == {None}
    assert len(effect()) == 12
    assert following.out_of_order() == []
    assert len(audit(wanted.name)) == 12
