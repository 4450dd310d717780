"""Clients of Valkey: the one place that combines its address with the timeouts of each role.

cache        a value that can also be loaded from the database
request      a request or a command waits for the answer, and continues without it after the timeout
bus          publishers and probes
background   tasks of the hub, listeners and operators' checks: nobody waits
queue        probes of the task queue, which may be on a server of its own (`REDIS_QUEUE_URL`)

An address names a server, or Sentinels (`events.valkey_urls`). A client of Sentinels asks them for the primary with
every connection that it opens.
"""

from __future__ import annotations

import functools
from typing import Any, Final, Literal, TypeAlias

import redis
import redis.asyncio
from django.conf import settings
from redis import sentinel
from redis.asyncio import sentinel as async_sentinel
from redis.backoff import NoBackoff
from redis.retry import Retry

from events import valkey_urls

Role: TypeAlias = Literal["cache", "request", "bus", "background", "queue"]

# Seconds, to connect and to get an answer.
TIMEOUTS: Final[dict[Role, float]] = {"cache": 0.1, "request": 0.5, "bus": 1.0, "background": 2.0, "queue": 1.0}


# A call may have got a connection that the server closed since. redis-py would repeat it ten times, after pauses: a
# server that does not answer would take eleven times the timeout.
ONCE_MORE: Final = Retry(NoBackoff(), 1)


def client(role: Role, **options: Any) -> redis.Redis:
    """A new blocking client; `options` are redis-py's and override the role's timeouts."""
    given = {"retry": ONCE_MORE} | _with_timeouts(role, options)
    known = valkey_urls.sentinels(address(role))
    if known is None:
        return redis.Redis.from_url(address(role), **given)
    asked = sentinel.Sentinel(known.hosts, sentinel_kwargs=_of_sentinels(known, role))  # type: ignore[no-untyped-call]
    pool = sentinel.SentinelConnectionPool(known.name, asked, **known.options(), **given)  # type: ignore[no-untyped-call]
    return redis.Redis.from_pool(pool)


def async_client(role: Role, **options: Any) -> redis.asyncio.Redis:
    """A new client for asyncio; see `client`."""
    given = _with_timeouts(role, options)
    known = valkey_urls.sentinels(address(role))
    if known is None:
        return redis.asyncio.Redis.from_url(address(role), **given)
    asked = async_sentinel.Sentinel(known.hosts, sentinel_kwargs=_of_sentinels(known, role))  # type: ignore[no-untyped-call]
    pool = _AsyncPool(known.name, asked, **known.options(), **given)  # type: ignore[no-untyped-call]
    return redis.asyncio.Redis.from_pool(pool)


class _AsyncPool(async_sentinel.SentinelConnectionPool):
    """Closes its connections to the Sentinels too, which redis-py leaves open."""

    async def disconnect(self, inuse_connections: bool = True) -> None:
        await super().disconnect(inuse_connections)
        for one in self.sentinel_manager.sentinels:
            await one.connection_pool.disconnect()


def shared_client(role: Role) -> redis.Redis:
    """This process's blocking client for a role; it follows a change of its address, as tests make."""
    return _shared(role, address(role))


@functools.lru_cache(maxsize=8)
def _shared(role: Role, _address: str) -> redis.Redis:
    return client(role)


def address(role: Role) -> str:
    """The address of a role's server."""
    found: str = (settings.REDIS_QUEUE_URL if role == "queue" else "") or settings.REDIS_URL
    return found


def broker_key(name: str) -> str:
    """The key of a Celery queue, or of another list or hash of the broker, such as `unacked`."""
    return f"{settings.CELERY_BROKER_TRANSPORT_OPTIONS['global_keyprefix']}{name}"


def _with_timeouts(role: Role, options: dict[str, Any]) -> dict[str, Any]:
    given: dict[str, Any] = {"socket_timeout": TIMEOUTS[role], "socket_connect_timeout": TIMEOUTS[role]}
    if role == "cache":
        given["retry"] = None  # loading the value is quicker
    return given | options


def _of_sentinels(known: valkey_urls.Sentinels, role: Role) -> dict[str, Any]:
    """How to connect to the Sentinels: as quickly as to the server, and to the next one where one does not answer."""
    timeouts = {"socket_timeout": TIMEOUTS[role], "socket_connect_timeout": TIMEOUTS[role], "retry": None}
    return {**timeouts, **known.asking}
