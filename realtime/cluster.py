"""What each web process says about its sockets, so that any of them can show all: the page of operators reads it.

Every two seconds a process writes its `Report` to Valkey, to be forgotten after ten. Nothing depends on it: without
Valkey a process can still report about itself (`of_this_process`), and a report that is missing is a process that is
gone, hangs, or cannot reach Valkey.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import redis
import redis.asyncio as aioredis
from django.conf import settings

from events import valkey
from realtime import prometheus, publish

logger = logging.getLogger(__name__)

EVERY: Final = 2.0
FORGET: Final = 10
# How long a process that says nothing stays in the index of those to ask for.
INDEXED: Final = 60
# Reports read at most: far more web processes than anybody runs.
MANY: Final = 500
PATIENCE: Final = 2.0

_started_at: Final = time.time()


class Unreachable(Exception):
    """Valkey cannot be asked: other processes are not known."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How this process's hub is doing, for `/readyz` and the admin. `ready`: may take sockets."""

    ready: bool
    draining: bool
    store: bool
    valkey: bool
    relay: bool
    position: int
    epoch: str
    sockets: int
    behind: int
    people: int
    ring: int
    detail: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One process. Instants are Unix seconds, memory bytes, lags seconds over the last minute; counts since start.

    `closes` is by close code; `cpu` the share of one core and `delivered` the frames a second since the last report.
    """

    process: str
    host: str
    pid: int
    started_at: float
    at: float
    draining: bool
    store: bool
    valkey: bool
    relay: bool
    epoch: str
    position: int
    sockets: int
    people: int
    behind: int
    ring: int
    memory: int
    cpu: float
    delivered: float
    deliveries: int
    lag_p50: float | None
    lag_p99: float | None
    fills: int
    drops: int
    credit_waits: int
    resets: int
    refusals: int
    revocations: int
    closes: dict[str, int]


def index_key() -> str:
    return f"{settings.REDIS_PREFIX}:realtime:processes"


def report_key(process: str) -> str:
    return f"{settings.REDIS_PREFIX}:realtime:process:{process}"


class Reporter:
    """Reports about one hub: its name, how it is doing, the delays of the last minute's events."""

    def __init__(self, process: str, status: Callable[[], Status], lags: Callable[[], Sequence[float]]) -> None:
        self._process, self._status, self._lags = process, status, lags
        self._seen = (time.monotonic(), time.process_time(), prometheus.total(prometheus.DELIVERIES))
        self.latest: Report | None = None

    async def run(self) -> None:
        """Report until cancelled; each round has its own patience, and a round that fails costs only itself."""
        client = valkey.async_client("background")
        async with client:
            try:
                while True:
                    self.latest = self.report()
                    await self._tell(client, self.latest)
                    await asyncio.sleep(EVERY)
            finally:
                await self._withdraw(client)

    def report(self) -> Report:
        now, cpu, deliveries = time.monotonic(), time.process_time(), prometheus.total(prometheus.DELIVERIES)
        before, cpu_before, deliveries_before = self._seen
        self._seen, elapsed = (now, cpu, deliveries), max(now - before, 0.001)
        status, lags = self._status(), self._lags()
        return Report(
            process=self._process,
            host=socket.gethostname(),
            pid=os.getpid(),
            started_at=_started_at,
            at=time.time(),
            draining=status.draining,
            store=status.store,
            valkey=status.valkey,
            relay=status.relay,
            epoch=status.epoch,
            position=status.position,
            sockets=status.sockets,
            people=status.people,
            behind=status.behind,
            ring=status.ring,
            memory=_resident(),
            cpu=(cpu - cpu_before) / elapsed,
            delivered=(deliveries - deliveries_before) / elapsed,
            deliveries=deliveries,
            lag_p50=_quantile(lags, 0.5),
            lag_p99=_quantile(lags, 0.99),
            fills=prometheus.total(prometheus.FILLS),
            drops=prometheus.total(prometheus.DROPS),
            credit_waits=prometheus.total(prometheus.CREDIT_WAITS),
            resets=prometheus.total(prometheus.RESETS),
            refusals=prometheus.total(prometheus.REFUSALS),
            revocations=prometheus.total(prometheus.REVOCATIONS),
            closes=prometheus.by_label(prometheus.CLOSES),
        )

    async def _tell(self, client: aioredis.Redis, report: Report) -> None:
        try:
            async with asyncio.timeout(PATIENCE), client.pipeline(transaction=False) as pipe:
                pipe.set(report_key(report.process), msgspec.msgpack.encode(report), ex=FORGET)
                pipe.zadd(index_key(), {report.process: report.at})
                pipe.zremrangebyscore(index_key(), "-inf", report.at - INDEXED)
                pipe.expire(index_key(), INDEXED)
                await pipe.execute()
        except (redis.RedisError, OSError) as error:
            logger.debug("no report to Valkey: %s", error)

    async def _withdraw(self, client: aioredis.Redis) -> None:
        """A process that ends in order is not shown any more."""
        try:
            async with asyncio.timeout(PATIENCE):
                await client.delete(report_key(self._process))
                await client.zrem(index_key(), self._process)
        except (redis.RedisError, OSError) as error:
            logger.debug("no farewell to Valkey: %s", error)


def reports() -> list[Report]:
    """All processes that reported lately, by host and process id. Blocking; raises `Unreachable`."""
    try:
        names: Sequence[Any] = publish.client().zrange(index_key(), 0, MANY - 1, desc=True)
        raw: Sequence[Any] = publish.client().mget([report_key(name.decode()) for name in names]) if names else []
    except (redis.RedisError, OSError) as error:
        raise Unreachable(str(error)) from error
    found = [report for one in raw if one is not None and (report := _decoded(one)) is not None]
    return sorted(found, key=lambda report: (report.host, report.pid, report.process))


def _decoded(raw: bytes) -> Report | None:
    """A process of another release may say more or less than we know: it is left out rather than guessed at."""
    try:
        return msgspec.msgpack.decode(raw, type=Report)
    except msgspec.DecodeError:
        return None


def _quantile(values: Sequence[float], share: float) -> float | None:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else None


def _resident() -> int:
    """Memory of this process in bytes; 0 where there is no /proc."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
