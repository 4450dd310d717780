"""The three cache levels: refused values, shared values, and one load at a time."""

from __future__ import annotations

import asyncio
import threading
import time
import tracemalloc
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection, connections, transaction

from backoffice.sections.forms import domain as forms
from backoffice.sections.users import domain as users
from events import commands, freshness, head, store
from events.db import replica
from events.subscriptions import progress
from events.types import new_id
from metrics import catalogue
from metrics.caching import cache, figures
from metrics.caching.entries import Entry, Memory
from metrics.caching.shared import Found, new_token
from tests import factories
from tests.events import effects
from tests.factories import Thread, command
from tests.metrics.caching.simulated import Process, task
from tests.metrics.counters import counting

PLANS = catalogue.UsersByPlan()


class Loader:
    """A load that counts its calls and can be held until `go` is set."""

    def __init__(self, value: Callable[[], Any] = lambda: 1, *, held: bool = False) -> None:
        self.value, self.calls = value, 0
        self.begun, self.go = threading.Event(), threading.Event()
        if not held:
            self.go.set()

    def __call__(self) -> Any:
        self.calls += 1
        self.begun.set()
        assert self.go.wait(30)
        return self.value()


def count() -> int:
    return int(store.query("select count(*) from users where deleted_at is null")[0][0])


# -- what is refused --------------------------------------------------------------------------------------------------


def test_value_is_loaded_once_and_then_comes_from_memory() -> None:
    one, load = Process(), Loader()
    asked = task(load, "user")
    assert [one.cache.get(asked).value for _ in range(3)] == [b"1"] * 3
    assert (load.calls, one.memory.sizes()["test"].hits, asked.stats.misses) == (1, 2, 1)


def test_event_with_a_tag_refuses_the_value_and_another_event_does_not() -> None:
    one, load = Process(), Loader()
    asked = task(load, "form")
    one.cache.get(asked)
    factories.user()
    one.follow()
    one.cache.get(asked)
    assert load.calls == 1
    factories.form()
    one.follow()
    one.cache.get(asked)
    assert load.calls == 2


def test_value_that_may_be_old_is_refused_by_a_deletion_only() -> None:
    one, load = Process(), Loader()
    asked = task(load, "user", exact=False)
    one.cache.get(asked)
    key = factories.user()
    one.follow()
    one.cache.get(asked)
    assert load.calls == 1
    commands.dispatch(command(users.DeleteUser(), key, reason="asked"))
    one.follow()
    one.cache.get(asked)
    assert load.calls == 2


def test_value_ends_with_its_time() -> None:
    one, load = Process(), Loader()
    asked = task(load, "user", seconds=0.0)
    one.cache.get(asked)
    one.cache.get(asked)
    assert load.calls == 2
    hour_over = task(load, "user", until=lambda: 0.0)
    one.cache.get(hour_over)
    one.cache.get(hour_over)
    assert load.calls == 4


def test_disconnected_process_uses_neither_memory_nor_valkey_and_keeps_nothing() -> None:
    one, two, load = Process(), Process(), Loader()
    asked = task(load, "user")
    one.cache.get(asked)
    one.known.disconnect()
    two.known.disconnect()
    one.cache.get(asked)
    two.cache.get(asked)
    assert (load.calls, len(two.memory)) == (3, 0)


def test_process_without_a_follower_uses_no_cache() -> None:
    one, load = Process(), Loader()
    worker = cache.Cache(Memory(1 << 20, freshness.Freshness()), one.shared, freshness.Freshness())
    asked = task(load, "user")
    one.cache.get(asked)
    worker.get(asked)
    worker.get(asked)
    assert load.calls == 3


def test_other_history_refuses_values_of_the_old_one() -> None:
    one, load = Process(), Loader()
    asked = task(load, "user")
    one.cache.get(asked)
    one.known.restart("another", one.known.position)
    one.known.confirm(1e18)
    one.cache.get(asked)
    assert load.calls == 2


def test_value_of_a_server_with_another_history_is_used_once_and_not_kept() -> None:
    """Its position would be taken for one of the history that this process follows, which may not have reached it."""
    one, two, load = Process(), Process(), Loader()
    for process in (one, two):
        process.known.restart("that of another primary", 0)
        process.known.confirm(1e18)
    asked = task(load, "user")
    for process in (one, two, one):
        process.cache.get(asked)
    assert (load.calls, asked.stats.shared, len(one.memory)) == (3, 0, 0)


# -- transactions -----------------------------------------------------------------------------------------------------


def test_transaction_that_wrote_reads_its_own_writes_and_stores_nothing() -> None:
    one, load = Process(), Loader(count)
    asked = task(load, "user")
    before = one.cache.get(asked).value
    with transaction.atomic():
        factories.user()
        assert int(one.cache.get(asked).value) == int(before) + 1
        transaction.set_rollback(True)
    assert one.cache.get(asked).value == before
    assert load.calls == 2


def test_repeatable_read_stores_nothing() -> None:
    one, load = Process(), Loader(count)
    asked = task(load, "user")
    with transaction.atomic():
        connection.cursor().execute("set transaction isolation level repeatable read")
        one.cache.get(asked)
    one.cache.get(asked)
    assert (load.calls, len(one.memory)) == (2, 1)


def test_transaction_that_only_reads_uses_the_cache() -> None:
    one, load = Process(), Loader(count)
    asked = task(load, "user")
    with transaction.atomic():
        one.cache.get(asked)
        one.cache.get(asked)
    assert load.calls == 1


# -- read your writes -------------------------------------------------------------------------------------------------


def test_own_write_is_included_before_the_follower_has_handled_it() -> None:
    one = Process()
    before = one.ask(PLANS)
    done = commands.dispatch(command(users.CreateUser(email=f"{new_id()}@example.org", plan="premium")))
    assert one.ask(PLANS) == before  # as far as this process knows
    assert one.ask(PLANS, reached=done.position).premium == before.premium + 1


def test_own_write_is_included_in_a_value_that_may_be_old() -> None:
    one, owner = Process(), factories.user()
    counting.follow()
    one.follow()
    query = catalogue.UserForms(user=owner)
    assert one.ask(query).live == 0
    done = commands.dispatch(command(forms.CreateForm(user_id=owner, title="A form")))
    assert one.ask(query, reached=done.position).live == 1
    one.follow()
    assert one.ask(query, reached=done.position).live == 1


def test_value_of_tables_that_follow_the_log_is_as_of_their_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Process()
    one.known.floor = 0
    factories.user()
    behind = head.safe() - 1
    monkeypatch.setattr(progress, "position", lambda _name: behind)
    assert one.cache.get(task(Loader(), "user", exact=False, fed_by=("counters",))).asof == behind


# -- a standby --------------------------------------------------------------------------------------------------------


@pytest.fixture
def standby(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A second address of the database in the place of a standby."""
    monkeypatch.setattr(replica, "STANDBY", replica.Standby())
    options = {name: option for name, option in connection.settings_dict["OPTIONS"].items() if name != "pool"}
    connections.settings[replica.ALIAS] = connection.settings_dict | {"OPTIONS": options}
    connections[replica.ALIAS].connect()  # Django's test case would refuse it later: it does not know this database
    yield
    connections[replica.ALIAS].close()
    del connections[replica.ALIAS]
    del connections.settings[replica.ALIAS]


def on_standby(read: Callable[[], Any]) -> Any:
    return replica.run_in(replica.Scope.OUTSIDE_TRANSACTIONS, read)


def test_reader_who_knows_more_does_not_accept_what_a_standby_answers_later(standby: None) -> None:
    one, load = Process(), Loader()
    asked = task(load, "user", shared=False)
    factories.user()
    one.follow()
    demand = cache.Demand(one.known, asked, head.safe())
    assert not demand.accepts(on_standby(lambda: one.cache.get(asked))), "no subscription has told it of the event"
    assert demand.accepts(one.cache.get(asked))


def test_value_that_may_be_old_counts_the_time_by_which_the_standby_lags(
    standby: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = effects.subscription(name="follower", handle=lambda _events: None)
    effects.catch_up(follower)
    one, load = Process(), Loader(replica.alias)
    monkeypatch.setattr(replica, "STANDBY", replica.Standby(one.known))
    replica.STANDBY._lately(time.monotonic())
    noted = time.monotonic()
    factories.user()
    one.follow()
    for seconds, server in ((30.0, b'"replica"'), (0.0, b'"default"')):
        asked = task(load, "user", exact=False, seconds=seconds)
        entry = on_standby(lambda asked=asked: one.cache.get(asked))
        assert (entry.value, entry.until <= noted + seconds) == (server, seconds > 0)
    effects.catch_up(follower)
    asked = task(load, "user", exact=False, seconds=0.0)
    assert on_standby(lambda: one.cache.get(asked)).value == b'"replica"', "it has all that is known here"


def test_failure_of_the_standby_is_no_failure_of_readers_who_wait(standby: None) -> None:
    one = Process()

    def failing() -> int:
        if replica.alias() == replica.ALIAS:
            while not asked.stats.waits:
                threading.Event().wait(0.002)
            store.query("do $$ begin raise exception 'conflict' using errcode = '40001'; end $$")
        return 1

    load = Loader(failing)
    asked = task(load, "user")
    waiting = Thread(lambda: load.begun.wait(30) and one.cache.get(asked).value)
    assert on_standby(lambda: one.cache.get(asked)).value == b"1", "in the second attempt"
    assert waiting.result() == b"1"


# -- Valkey -----------------------------------------------------------------------------------------------------------


def test_second_process_takes_the_value_from_valkey() -> None:
    one, two, load = Process(), Process(), Loader()
    asked = task(load, "user")
    one.cache.get(asked)
    assert two.cache.get(asked).value == b"1"
    assert two.cache.get(asked).value == b"1"
    assert (load.calls, asked.stats.shared) == (1, 1)


def test_value_that_is_not_shared_stays_in_its_process() -> None:
    one, two, load = Process(), Process(), Loader()
    asked = task(load, "user", shared=False)
    one.cache.get(asked)
    two.cache.get(asked)
    assert load.calls == 2


def test_process_that_knows_more_refuses_the_value_of_one_that_knows_less() -> None:
    one, two, load = Process(), Process(), Loader(count)
    asked = task(load, "user")
    one.cache.get(asked)
    factories.user()
    two.follow()
    assert int(two.cache.get(asked).value) == 1
    assert load.calls == 2
    one.follow()
    assert int(one.cache.get(asked).value) == 1  # the value that `two` stored in Valkey
    assert load.calls == 2


def test_older_value_does_not_replace_a_newer_one() -> None:
    one = Process()
    asked = task(Loader(), "user")
    newer = Found(20, 30.0, 0.0, b"2")
    assert one.shared.store(asked.key, new_token(), "e", newer)
    assert not one.shared.store(asked.key, new_token(), "e", Found(10, 30.0, 0.0, b"1"))
    found = one.shared.fetch(asked.key, "e", 5, new_token(), 1.0)
    assert isinstance(found, Found)
    assert (found.asof, found.value) == (20, b"2")


def test_invalidation_between_load_and_store_refuses_the_value() -> None:
    """redis/lettuce#3481: a value that was read before the change was put into the cache after its invalidation."""
    one, two = Process(), Process()
    load = Loader(count, held=True)
    asked = task(load, "user")
    loading = Thread(lambda: one.cache.get(asked))
    assert load.begun.wait(30)
    entry_before = head.safe()
    factories.user()
    for each in (one, two):
        each.follow()
    load.value = lambda: 0  # what the query saw before the commit
    load.go.set()
    assert loading.result().asof == entry_before
    load.value = count
    assert [int(each.cache.get(asked).value) for each in (one, two)] == [1, 1]


# -- one load at a time -----------------------------------------------------------------------------------------------


def test_threads_of_one_process_share_a_load() -> None:
    one, load = Process(), Loader(held=True)
    asked = task(load, "user")
    readers = [Thread(lambda: one.cache.get(asked).value) for _ in range(20)]
    assert load.begun.wait(30)
    while asked.stats.waits < 19:
        threading.Event().wait(0.002)
    load.go.set()
    assert {reader.result() for reader in readers} == {b"1"}
    assert load.calls == 1


def test_callers_on_the_event_loop_and_threads_share_a_load() -> None:
    one, load = Process(), Loader(held=True)
    asked = task(load, "user")
    thread = Thread(lambda: one.cache.get(asked).value)
    assert load.begun.wait(30)

    async def scenario() -> list[bytes]:
        readers = [asyncio.create_task(one.cache.aget(asked)) for _ in range(20)]
        cancelled = asyncio.create_task(one.cache.aget(asked))
        while asked.stats.waits < 21:
            await asyncio.sleep(0)
        cancelled.cancel()  # must not end the load for the others
        load.go.set()
        return [entry.value for entry in await asyncio.gather(*readers)]

    assert set(asyncio.run(scenario())) == {b"1"}
    assert thread.result() == b"1"
    assert asyncio.run(one.cache.aget(asked)).value == b"1"
    assert load.calls == 1


def test_reader_does_not_accept_a_load_that_began_before_what_it_knows() -> None:
    one, first, load = Process(), Loader(held=True), Loader(count)
    asked = task(first, "user")
    early = Thread(lambda: one.cache.get(asked).value)
    assert first.begun.wait(30)
    factories.user()
    one.follow()
    asked.load = lambda: str(load()).encode()
    late = Thread(lambda: one.cache.get(asked).value)
    while not asked.stats.waits:
        threading.Event().wait(0.002)
    first.value = lambda: 0
    first.go.set()
    assert (early.result(), late.result()) == (b"0", b"1")


def test_failed_load_is_raised_to_its_readers_and_the_next_read_loads_again() -> None:
    one = Process()

    def fail() -> int:
        raise ZeroDivisionError

    load = Loader(fail, held=True)
    asked = task(load, "user")
    readers = [Thread(lambda: one.cache.get(asked)) for _ in range(3)]
    assert load.begun.wait(30)
    while asked.stats.waits < 2:
        threading.Event().wait(0.002)
    load.go.set()
    for reader in readers:
        with pytest.raises(ZeroDivisionError):
            reader.result()
    load.value = lambda: 5
    assert one.cache.get(asked).value == b"5"
    assert Process().cache.get(asked).value == b"5"


def test_interrupted_load_leaves_its_readers_to_load_themselves() -> None:
    one = Process()

    def interrupt() -> int:
        load.value = lambda: 5
        raise KeyboardInterrupt

    load = Loader(interrupt, held=True)
    asked = task(load, "user")
    leader = Thread(lambda: one.cache.get(asked))
    assert load.begun.wait(30)
    reader = Thread(lambda: one.cache.get(asked).value)
    while not asked.stats.waits:
        threading.Event().wait(0.002)
    load.go.set()
    with pytest.raises(KeyboardInterrupt):
        leader.result()
    assert reader.result() == b"5"


def test_loader_that_died_keeps_others_waiting_no_longer_than_its_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "LEASE_SECONDS", 0.2)
    dead, one, load = Process(), Process(), Loader()
    asked = task(load, "user")
    assert dead.shared.fetch(asked.key, dead.known.epoch, 0, new_token(), 0.2) is True
    assert one.cache.get(asked).value == b"1"
    assert load.calls == 1


def test_loader_that_outlives_its_lease_neither_fails_nor_replaces_a_newer_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """dogpile.cache raises to the reader when a loader outlives its lock."""
    monkeypatch.setattr(cache, "LEASE_SECONDS", 0.05)
    one, two, three = Process(), Process(), Process()
    slow, quick = Loader(lambda: 0, held=True), Loader(count)
    asked = task(slow, "user")
    loading = Thread(lambda: one.cache.get(asked).value)
    assert slow.begun.wait(30)
    factories.user()
    two.follow()
    other = task(quick, "user", key=asked.key)
    assert two.cache.get(other).value == b"1"
    slow.go.set()
    assert loading.result() == b"0"  # as of before it was asked
    three.follow()
    assert three.cache.get(other).value == b"1"
    assert quick.calls == 1


# -- loading again while the value may still be used ------------------------------------------------------------------


def stale(process: Process, asked: cache.Task) -> Entry:
    """The value of a task as in the last third of its time, in memory; Valkey has none that is fresher."""
    entry = process.cache.get(asked)
    process.shared.remove(asked.key)
    entry.fresh_until = time.monotonic()
    return entry


def test_value_that_may_be_old_is_used_at_once_while_one_load_replaces_it() -> None:
    one, load = Process(), Loader()
    asked = task(load, "user", exact=False, seconds=3_600.0)
    stale(one, asked)
    load.value = lambda: 2
    load.begun.clear()
    load.go.clear()
    assert [one.cache.get(asked).value for _ in range(20)] == [b"1"] * 20
    assert load.begun.wait(30)
    assert asyncio.run(one.cache.aget(asked)).value == b"1"
    load.go.set()
    assert counting.eventually(lambda: one.cache.get(asked).value == b"2")
    assert load.calls == 2


def test_refresh_takes_the_fresher_value_of_another_process() -> None:
    one, two, load = Process(), Process(), Loader()
    asked = task(load, "user", exact=False, seconds=3_600.0)
    for process in (one, two):
        stale(process, asked)
    one.shared.store(asked.key, new_token(), one.known.epoch, Found(one.known.position, 3_599.0, 0.0, b"2"))
    two.cache.refresh(asked)
    assert two.cache.get(asked).value == b"2"
    assert load.calls == 2  # one for each at the beginning


def test_refresh_is_left_to_the_process_that_loads_already() -> None:
    one, two, load = Process(), Process(), Loader()
    asked = task(load, "user", exact=False, seconds=3_600.0)
    for process in (one, two):
        stale(process, asked)
    assert one.shared.fetch(asked.key, one.known.epoch, 0, new_token(), 30.0) is True
    two.cache.refresh(asked)
    assert load.calls == 2  # one for each at the beginning
    assert two.cache.get(asked).value == b"1"


def test_deletion_refuses_a_value_that_is_loaded_again() -> None:
    one, load = Process(), Loader(count)
    asked = task(load, "user", exact=False, seconds=3_600.0)
    key = factories.user()
    one.follow()
    stale(one, asked)
    load.value = lambda: 1 if load.calls == 2 else count()  # what the second load saw before the deletion
    load.begun.clear()
    load.go.clear()
    assert one.cache.get(asked).value == b"1"
    assert load.begun.wait(30)
    commands.dispatch(command(users.DeleteUser(), key, reason="asked"))
    one.follow()
    late = Thread(lambda: one.cache.get(asked).value)
    while not asked.stats.waits:
        threading.Event().wait(0.002)
    load.go.set()
    assert late.result() == b"0"


def test_failed_refresh_leaves_the_value_until_its_end() -> None:
    one, load = Process(), Loader()
    asked = task(load, "user", exact=False, seconds=3_600.0)
    entry = stale(one, asked)

    def fail() -> int:
        raise ZeroDivisionError

    load.value = fail
    with pytest.raises(ZeroDivisionError):
        one.cache.refresh(asked)
    assert one.cache.get(asked) is entry
    entry.until = entry.fresh_until = 0.0
    with pytest.raises(ZeroDivisionError):
        one.cache.get(asked)


def test_exact_value_is_fresh_until_its_end() -> None:
    one = Process()
    entry = one.cache.get(task(Loader(), "user", seconds=3_600.0))
    assert entry.fresh_until == entry.until
    assert one.cache.get(task(Loader(), "user", exact=False, seconds=3_600.0)).fresh_until < entry.until


# -- memory -----------------------------------------------------------------------------------------------------------


def entry(size: int, known: freshness.Freshness, name: str) -> Entry:
    made = Entry(name, b"x" * size, asof=known.position, epoch=known.epoch, until=1e18, stats=task(Loader()).stats)
    made.seen = known.changes
    return made


def test_least_recently_used_entries_are_evicted_beyond_the_limit() -> None:
    known = freshness.Freshness()
    known.start("e", 1)
    known.confirm(1e18)
    memory = Memory(10_000, known)
    for name in "abc":
        memory.put(name, entry(2_500, known, name))
    for _ in range(16):
        assert memory.get("a")
    memory.put("d", entry(2_500, known, "d"))
    assert [name for name in "abcd" if memory.get(name)] == ["a", "c", "d"]
    assert memory.bytes <= 10_000
    memory.put("e", entry(20_000, known, "e"))
    assert memory.get("e") is None
    assert memory.get("a")


def test_counted_bytes_are_at_least_those_that_entries_occupy() -> None:
    known = freshness.Freshness()
    known.start("e", 1)
    memory = Memory(100_000_000, known)
    stats = figures.QueryFigures("test")
    tracemalloc.start()
    try:
        for number in range(5_000):
            name = f"user-forms:{uuid.UUID(int=number)}:admin"
            value = b'{"live":1,"archived":0,"deleted":0,"submissions":%d}' % number
            marks = freshness.slots(("form", "submission", name))
            new = Entry(name, value, asof=2, epoch="e", until=1.0 + number, stats=stats, slots=marks, at=float(number))
            memory.put(f"0123456789ab:{name}", new)
        occupied = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(memory) == 5_000
    assert occupied <= memory.bytes <= 2 * occupied


def test_entry_replaced_by_a_newer_one_is_counted_once() -> None:
    known = freshness.Freshness()
    known.start("e", 1)
    memory = Memory(10_000, known)
    memory.put("a", entry(100, known, "a"))
    size = memory.bytes
    memory.put("a", entry(100, known, "a"))
    assert (memory.bytes, len(memory)) == (size, 1)
    memory.clear()
    assert (memory.bytes, len(memory)) == (0, 0)


# -- comparing --------------------------------------------------------------------------------------------------------


def test_compared_hit_that_equals_the_database_is_no_difference() -> None:
    one, asked = Process(), task(count, "user")
    assert one.cache.compare(asked, one.cache.get(asked)) is True
    assert (asked.stats.compared, asked.stats.differences) == (1, 0)


def test_change_without_an_event_is_counted_and_logged_as_a_difference(caplog: pytest.LogCaptureFixture) -> None:
    one, asked = Process(), task(count, "user")
    factories.user()
    one.follow()
    held = one.cache.get(asked)
    store.query("delete from users returning 1")
    assert one.cache.compare(asked, held) is False
    assert asked.stats.differences == 1
    assert asked.key in caplog.text


def test_change_by_an_event_that_is_not_handled_yet_is_no_difference() -> None:
    one, asked = Process(), task(count, "user")
    held = one.cache.get(asked)
    factories.user()
    assert one.cache.compare(asked, held, patience=0.0) is None
    one.follow()
    assert one.cache.compare(asked, held) is None
    assert asked.stats.differences == 0


def test_one_hit_in_a_thousand_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    one, asked = Process(), task(count, "user")
    compared = threading.Event()
    monkeypatch.setattr(one.cache, "compare", lambda *_: compared.set())
    for _ in range(1_001):
        one.cache.get(asked)
    assert compared.wait(30)
