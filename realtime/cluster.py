"""Reports of each web process about its sockets, so that the operator's page can show all processes.

Every two seconds a process writes its `ProcessReport` to Valkey, with a lifetime of ten seconds. Nothing depends on it:
without Valkey a process still knows its own report (`local_hub.report`). A missing report means that the process has
ended, hangs, or cannot reach Valkey.
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

REPORT_SECONDS: Final = 2.0
REPORT_TTL: Final = 10
# Seconds a silent process stays in the index of reports.
INDEX_TTL: Final = 60
# Reports read at most; far more than the web processes of any installation.
MAX_REPORTS: Final = 500
VALKEY_TIMEOUT: Final = 2.0

_started_at: Final = time.time()


# Name -> what a layer above adds to this process's reports.
extras: Final[dict[str, Callable[[], Any]]] = {}


class Unreachable(Exception):
    """Valkey cannot be reached, so other processes are not known."""


class HubStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The state of this process's hub, for `/readyz` and the admin. `ready`: it accepts sockets."""

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


class ProcessReport(msgspec.Struct, frozen=True, kw_only=True):
    """One process. Instants are Unix seconds, memory bytes, lags seconds over the last minute; counts since start.

    `closes` is by close code, `extra` from layers above (`extras`). `cpu` is the share of one core and `delivered` the
    frames a second since the last report.
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
    extra: dict[str, Any] = {}


def index_key() -> str:
    return f"{settings.REDIS_PREFIX}:realtime:processes"


def report_key(process: str) -> str:
    return f"{settings.REDIS_PREFIX}:realtime:process:{process}"


class Reporter:
    """Writes the reports of one hub, from its name, its status and the lags of the last minute."""

    def __init__(self, process: str, status: Callable[[], HubStatus], lags: Callable[[], Sequence[float]]) -> None:
        self._process, self._status, self._lags = process, status, lags
        self._seen = (time.monotonic(), time.process_time(), prometheus.total(prometheus.DELIVERIES))
        self.latest: ProcessReport | None = None

    async def run(self) -> None:
        """Write a report at intervals until cancelled; each has its own timeout, and a failed one affects no other."""
        client = valkey.async_client("background")
        async with client:
            try:
                while True:
                    self.latest = self.report()
                    await self._publish(client, self.latest)
                    await asyncio.sleep(REPORT_SECONDS)
            finally:
                await self._remove(client)

    def report(self) -> ProcessReport:
        now, cpu, deliveries = time.monotonic(), time.process_time(), prometheus.total(prometheus.DELIVERIES)
        before, cpu_before, deliveries_before = self._seen
        self._seen, elapsed = (now, cpu, deliveries), max(now - before, 0.001)
        status, lags = self._status(), self._lags()
        return ProcessReport(
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
            extra={name: msgspec.to_builtins(report()) for name, report in extras.items()},
        )

    async def _publish(self, client: aioredis.Redis, report: ProcessReport) -> None:
        try:
            async with asyncio.timeout(VALKEY_TIMEOUT), client.pipeline(transaction=False) as pipe:
                pipe.set(report_key(report.process), msgspec.msgpack.encode(report), ex=REPORT_TTL)
                pipe.zadd(index_key(), {report.process: report.at})
                pipe.zremrangebyscore(index_key(), "-inf", report.at - INDEX_TTL)
                pipe.expire(index_key(), INDEX_TTL)
                await pipe.execute()
        except (redis.RedisError, OSError) as error:
            logger.debug("the report could not be written to Valkey: %s", error)

    async def _remove(self, client: aioredis.Redis) -> None:
        """Remove the report of a process that stops normally."""
        try:
            async with asyncio.timeout(VALKEY_TIMEOUT):
                await client.delete(report_key(self._process))
                await client.zrem(index_key(), self._process)
        except (redis.RedisError, OSError) as error:
            logger.debug("the report could not be removed from Valkey: %s", error)


def reports() -> list[ProcessReport]:
    """The reports of all processes, ordered by host and process id. Blocking; raises `Unreachable`."""
    try:
        names: Sequence[Any] = publish.client().zrange(index_key(), 0, MAX_REPORTS - 1, desc=True)
        raw: Sequence[Any] = publish.client().mget([report_key(name.decode()) for name in names]) if names else []
    except (redis.RedisError, OSError) as error:
        raise Unreachable(str(error)) from error
    found = [report for one in raw if one is not None and (report := _decoded(one)) is not None]
    return sorted(found, key=lambda report: (report.host, report.pid, report.process))


def _decoded(raw: bytes) -> ProcessReport | None:
    """Decode a report. Returns None for one of another release, whose fields may differ."""
    try:
        return msgspec.msgpack.decode(raw, type=ProcessReport)
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
