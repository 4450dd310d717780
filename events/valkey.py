"""Clients of Valkey: the one place that combines its address with the timeouts of each role.

cache        a value that can also be loaded from the database
request      a request or a command waits for the answer, and continues without it after the timeout
bus          publishers and probes
background   tasks of the hub, listeners and operators' checks: nobody waits
"""

from __future__ import annotations

import functools
from typing import Any, Final, Literal, TypeAlias

import redis
import redis.asyncio
from django.conf import settings

Role: TypeAlias = Literal["cache", "request", "bus", "background"]

# Seconds, to connect and to get an answer.
TIMEOUTS: Final[dict[Role, float]] = {"cache": 0.1, "request": 0.5, "bus": 1.0, "background": 2.0}


def client(role: Role, **options: Any) -> redis.Redis:
    """A new blocking client; `options` are redis-py's and override the role's timeouts."""
    return redis.Redis.from_url(settings.REDIS_URL, **_with_timeouts(role, options))


def async_client(role: Role, **options: Any) -> redis.asyncio.Redis:
    """A new client for asyncio; see `client`."""
    return redis.asyncio.Redis.from_url(settings.REDIS_URL, **_with_timeouts(role, options))


def shared_client(role: Role) -> redis.Redis:
    """This process's blocking client for a role; it follows a change of `REDIS_URL`, as tests make."""
    return _shared(role, settings.REDIS_URL)


@functools.lru_cache(maxsize=8)
def _shared(role: Role, _url: str) -> redis.Redis:
    return client(role)


def _with_timeouts(role: Role, options: dict[str, Any]) -> dict[str, Any]:
    given: dict[str, Any] = {"socket_timeout": TIMEOUTS[role], "socket_connect_timeout": TIMEOUTS[role]}
    if role == "cache":
        given["retry"] = None  # redis-py repeats a failed call three times; loading the value is quicker
    return given | options
