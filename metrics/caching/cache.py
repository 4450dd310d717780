"""Three levels: memory, Valkey, loader. One load at a time for each key, in this process and across processes.

`Cache.get` answers with an entry that reflects every event this process knew when it was asked (the proof is in
docs/read-side.md):

    1  memory    an entry that is still valid
    2  flight    a load of the same key that runs in this process: wait for it
    3  Valkey    an entry of another process, or the lease to load; without either wait for the holder of the lease
    4  load      the safe head first, then the query
    5  keep      in memory and in Valkey, unless this process or its transaction cannot prove what it read

An entry that may be some seconds old is loaded again in the background during the last third of its time, when it is
read. Its readers do not wait for the load.

A load from a standby reflects what its reader has seen (`events.db.replica`), which may be less. Others accept it only
if its stamp proves enough for them; and a value that may be some seconds old counts the time by which the standby lags.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Final, TypeVar

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections

from events import freshness, head, store
from events.db import replica, timeouts
from events.subscriptions import progress
from metrics.caching import figures
from metrics.caching.entries import SAMPLE, Entry, Memory
from metrics.caching.shared import Found, SharedCache, new_token

log = logging.getLogger(__name__)

# The longest that other processes wait for a load; then they load themselves.
LEASE_SECONDS: Final = 3.0
# The part of its time after which an entry that may be old is loaded again, and the loads at a time for that.
FRESH: Final = 2 / 3
REFRESHES: Final = 2
REFRESH_SECONDS: Final = 10.0  # of a statement of such a load
# Pauses between two looks for the value of another process.
PAUSES: Final = (0.005, 0.01, 0.02)

TRANSACTION: Final = """
select current_setting('transaction_isolation') = 'read committed' and pg_current_xact_id_if_assigned() is null
"""


def _no_end() -> float:
    return float("inf")


@dataclass(slots=True, eq=False)
class Task:
    """A load and the lifetime of its value: one query with its arguments, for one role.

    key      unique for build, query, arguments and role; `name` is its readable part, which patterns match
    slots    of its tags; `exact`: see `entries.Entry`; `seconds`: how long the value is valid at most
    shared   kept in Valkey too: only numbers, dates and known words
    fed_by   subscriptions that keep the tables it reads
    until    seconds for which the value is still valid by the clock, asked after each load
    check    raises `ValueError` for bytes from Valkey that are no value of this query
    """

    key: str
    name: str
    load: Callable[[], bytes]
    _: KW_ONLY
    slots: tuple[int, ...]
    stats: figures.QueryFigures
    exact: bool = True
    seconds: float = 30.0
    shared: bool = False
    fed_by: tuple[str, ...] = ()
    until: Callable[[], float] = _no_end
    check: Callable[[bytes], object] = bytes


F = TypeVar("F", Entry, "Entry | None")


class Flight(concurrent.futures.Future["Entry | None"]):
    """A load that others wait for; its result is None where it was interrupted."""


class Demand:
    """The conditions that an entry must meet for one read, as of the moment of the read.

    Loads that began later satisfy it as well: they see everything that was committed before.
    """

    __slots__ = ("arrived", "changes", "epoch", "lowest", "trusted")

    def __init__(self, known: freshness.Freshness, task: Task, reached: int) -> None:
        self.arrived = time.monotonic()
        self.changes, self.epoch = known.changes, known.epoch  # before the slots: see `Freshness.touch`
        self.lowest = known.lowest(task.name, task.slots, exact=task.exact, reached=reached)
        self.trusted = known.trusted(self.arrived)

    def accepts(self, entry: Entry) -> bool:
        if entry.begun >= self.arrived:
            return True
        current = entry.epoch == self.epoch and entry.asof >= self.lowest
        return self.trusted and current and time.monotonic() < entry.until


class Cache:
    """The cache of one process; see the module's docstring. `known` is what its follower knows of the log."""

    def __init__(self, memory: Memory, shared: SharedCache, known: freshness.Freshness = freshness.LOCAL) -> None:
        self.memory, self.shared, self.known = memory, shared, known
        self._flights: dict[str, Flight] = {}
        self._lock = threading.Lock()
        self._comparing = threading.Lock()
        self._refreshing = threading.BoundedSemaphore(REFRESHES)

    # -- read ----------------------------------------------------------------------------------------------------------

    def get(self, task: Task, reached: int = 0) -> Entry:
        """The value of a task; `reached` is the position of an event that the caller wrote and wants included."""
        if not provable():  # an open transaction reads its own writes, or an old snapshot: nobody else's values
            return self._load(task, stamped=False)
        found = self._in_memory(task, reached)
        if found is not None:
            return found
        demand = Demand(self.known, task, reached)
        if found := self._checked(task, demand):
            return found
        task.stats.misses += 1
        while True:
            flight, leads = self._join(task.key)
            if leads:
                return self._lead(task, flight, partial(self._fetch, task, demand))
            task.stats.waits += 1
            entry = flight.result()
            if entry is not None and demand.accepts(entry):
                return entry

    def load_only(self, task: Task) -> Entry:
        """The value without looking for it or keeping it, for queries that are not cached."""
        return self._load(task, stamped=provable())

    async def aget(self, task: Task, reached: int = 0) -> Entry:
        """`get` for the event loop: it waits for a running load without a thread, and loads in one."""
        found = self._in_memory(task, reached)
        if found is not None:
            return found
        demand = Demand(self.known, task, reached)
        while flight := self._flights.get(task.key):
            task.stats.waits += 1
            entry = await asyncio.wrap_future(flight)
            if entry is not None and demand.accepts(entry):
                return entry
            await asyncio.sleep(0)
        return await sync_to_async(self._get_in_thread, thread_sensitive=False)(task, reached)

    def _get_in_thread(self, task: Task, reached: int) -> Entry:
        try:
            return self.get(task, reached)
        finally:
            connections.close_all()  # no request ends on this thread, so Django does not close them

    def _in_memory(self, task: Task, reached: int) -> Entry | None:
        """Step 1 without looking at slots: the path of nearly every read."""
        if reached:
            return None
        entry = self.memory.get(task.key)
        if entry is not None and not entry.hits % SAMPLE:
            self._compare(task, entry)
        return entry

    def _checked(self, task: Task, demand: Demand) -> Entry | None:
        """Step 1 for an entry whose slots have to be checked."""
        entry = self.memory.look(task.key)
        if entry is None or entry.begun >= demand.arrived or not demand.accepts(entry):
            return None
        entry.seen = demand.changes
        entry.hits += 1
        if not entry.hits % SAMPLE:
            self._compare(task, entry)
        if time.monotonic() >= entry.fresh_until:
            self._refresh(task, entry)
        return entry

    # -- one load at a time --------------------------------------------------------------------------------------------

    def _join(self, key: str) -> tuple[Flight, bool]:
        """The running load of a key and False; a new one and True where there is none."""
        with self._lock:
            running = self._flights.get(key)
            if running is not None:
                return running, False
            flight = self._flights[key] = Flight()
            flight.set_running_or_notify_cancel()  # so that nobody who waits can cancel it for the others
            return flight, True

    def _lead(self, task: Task, flight: Flight, fetch: Callable[[], F]) -> F:
        """Fetch for all who join. They get the error of a failed load, but not that of a standby or an interruption."""
        try:
            entry = fetch()
        except BaseException as error:
            self._end(task.key)
            if isinstance(error, Exception) and not replica.failed(error):
                flight.set_exception(error)
            else:
                flight.set_result(None)
            raise
        self._end(task.key)
        flight.set_result(entry)
        return entry

    def _end(self, key: str) -> None:
        """End a load for later reads, which start their own: this one may have begun too early for them."""
        with self._lock:
            self._flights.pop(key, None)

    def _fetch(self, task: Task, demand: Demand) -> Entry:
        """Run steps 3 to 5. A process that is disconnected or without Valkey loads the value itself."""
        token, deadline, looks = new_token(), time.monotonic() + LEASE_SECONDS, 0
        while task.shared and demand.trusted:
            began = time.monotonic()
            found = self.shared.fetch(task.key, demand.epoch, demand.lowest, token, LEASE_SECONDS)
            if isinstance(found, Found):
                if entry := self._shared_entry(task, found, demand, began):
                    return self._keep(task, entry)
                continue
            if found is None:
                break
            if found or time.monotonic() >= deadline:
                return self._load_and_share(task, token)
            task.stats.waits += not looks
            time.sleep(PAUSES[min(looks, len(PAUSES) - 1)])
            looks += 1
        return self._keep(task, self._load(task))

    def _shared_entry(self, task: Task, found: Found, demand: Demand, began: float) -> Entry | None:
        """An entry from Valkey; None, and the value is removed, where its bytes are no value of this query."""
        try:
            task.check(found.value)
        except ValueError as error:
            log.warning("%s: the shared value cannot be read: %s", task.name, error)
            self.shared.remove(task.key)
            return None
        task.stats.shared += 1
        left = min(found.left, task.seconds)  # Valkey's clock may have been set back
        until = min(began + left, time.monotonic() + task.until())
        return Entry(
            task.name,
            found.value,
            asof=found.asof,
            epoch=demand.epoch,
            until=until,
            fresh_until=until if task.exact else began + left - (1 - FRESH) * task.seconds,
            slots=task.slots,
            exact=task.exact,
            at=found.at,
            stats=task.stats,
        )

    def _load_and_share(self, task: Task, token: str) -> Entry:
        """Load, then store the value for the other processes; whatever happens, the lease ends if it is this load's."""
        stored = False
        try:
            entry = self._keep(task, self._load(task))
            left = entry.until - time.monotonic()
            if left > 0 and self._may_keep(entry):
                stored = (
                    self.shared.store(task.key, token, entry.epoch, Found(entry.asof, left, entry.at, entry.value))
                    is not None
                )
            return entry
        finally:
            if not stored:
                self.shared.release(task.key, token)

    # -- load ----------------------------------------------------------------------------------------------------------

    def _load(self, task: Task, *, stamped: bool = True) -> Entry:
        """Step 4: the safe head and the checkpoints first, each in a snapshot of its own; then the query."""
        begun, at = time.monotonic(), time.time()
        epoch, safe = head.stamp() if stamped else (self.known.epoch, 0)  # the server's, which may be another one
        asof = min([safe, *(progress.position(name) for name in task.fed_by)]) if stamped else 0
        on_standby = replica.alias() == replica.ALIAS  # which may lack what is already known here
        age = replica.STANDBY.age(safe) if on_standby and not task.exact else 0.0
        if age > task.seconds:
            return replica.run_in(None, partial(self._load, task))
        until = begun + min(task.seconds - age, task.until())
        value = task.load()
        task.stats.loads += 1
        return Entry(
            task.name,
            value,
            asof=asof,
            epoch=epoch,
            until=until,
            fresh_until=until if task.exact else begun + FRESH * task.seconds - age,
            slots=task.slots,
            exact=task.exact,
            begun=freshness.NEVER if on_standby else begun,
            at=at,
            stats=task.stats,
        )

    def _may_keep(self, entry: Entry) -> bool:
        return self.known.trusted() and bool(entry.epoch) and entry.epoch == self.known.epoch

    def _keep(self, task: Task, entry: Entry) -> Entry:
        """Step 5: keep an entry in memory, unless an erasure came after it."""
        if self._may_keep(entry):
            self.memory.put(task.key, entry)
        return entry

    # -- refresh -------------------------------------------------------------------------------------------------------

    def _refresh(self, task: Task, entry: Entry) -> None:
        """Load an entry again in a thread, once. If the load fails or no thread is free, a read loads it later."""
        if not self._refreshing.acquire(blocking=False):
            return
        entry.fresh_until = entry.until
        threading.Thread(target=self._refresh_in_thread, args=(task,), daemon=True, name="refresh").start()

    def _refresh_in_thread(self, task: Task) -> None:
        try:
            self.refresh(task)
        except Exception as error:
            log.warning("%s could not be loaded again: %s", task.name, error)
        finally:
            connections.close_all()
            self._refreshing.release()

    def refresh(self, task: Task) -> None:
        """Take a fresher value from another process or load one, unless another thread already does so."""
        with timeouts.at_most(REFRESH_SECONDS):
            flight, leads = self._join(task.key)
            if leads:
                self._lead(task, flight, partial(self._fetch_again, task))

    def _fetch_again(self, task: Task) -> Entry | None:
        """Run steps 3 to 5 without waiting; None where another process loads, or the value cannot be kept."""
        demand, began, token = Demand(self.known, task, 0), time.monotonic(), new_token()
        if not demand.trusted:
            return None
        found: Found | bool | None = None
        if task.shared:
            left = (1 - FRESH) * task.seconds
            found = self.shared.fetch(task.key, demand.epoch, demand.lowest, token, LEASE_SECONDS, left)
        if isinstance(found, Found):
            entry = self._shared_entry(task, found, demand, began)
            return self._keep(task, entry) if entry else None
        if found is False:
            return None
        return self._load_and_share(task, token) if found else self._keep(task, self._load(task))

    # -- compare -------------------------------------------------------------------------------------------------------

    def _compare(self, task: Task, entry: Entry) -> None:
        """Load a served value again, in a thread, and compare both; at most one at a time."""
        if self._comparing.acquire(blocking=False):
            threading.Thread(target=self._compare_in_thread, args=(task, entry), daemon=True, name="compare").start()

    def _compare_in_thread(self, task: Task, entry: Entry) -> None:
        try:
            self.compare(task, entry)
        except Exception as error:
            log.warning("%s could not be compared: %s", task.name, error)
        finally:
            connections.close_all()
            self._comparing.release()

    def compare(self, task: Task, entry: Entry, patience: float = 1.0) -> bool | None:
        """Whether a served value equals a fresh load; None where that is unknown.

        It is unknown when an event of the value's tags came between.

        A different load proves nothing yet: it may contain an event that is not handled here. So a difference counts
        only if the entry is still valid once this process knows everything that the load can have seen.
        """
        value = task.load()
        if value == entry.value:
            task.stats.compared += 1
            return True
        upto, deadline = head.newest(), time.monotonic() + patience
        while self.known.position < upto and time.monotonic() < deadline:
            time.sleep(0.005)
        lowest = self.known.lowest(task.name, task.slots, exact=True)
        known = self.known.position >= upto and self.known.trusted()
        if not known or entry.asof < lowest or time.monotonic() >= entry.until:
            return None
        task.stats.compared += 1
        task.stats.differences += 1
        log.error("the cached value of %s as of %d differs from the database", task.key, entry.asof)
        return False


_of_thread = threading.local()


def provable() -> bool:
    """True when this thread reads the same as every other reader: no transaction that wrote, no old snapshot."""
    db = getattr(_of_thread, "db", None)
    if db is None:  # Django's own way to the connection of a thread takes longer than a hit
        db = _of_thread.db = connections[DEFAULT_DB_ALIAS]
    if db.connection is None or (not db.in_atomic_block and db.autocommit):
        return True
    found: bool = store.query(TRANSACTION)[0][0]
    return found


LOCAL: Final = Cache(Memory(settings.CACHE_MEMORY_MIB << 20), SharedCache())
