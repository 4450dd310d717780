"""Rate limits of API calls and of commands for each caller.

Valkey counts for all processes together; without Valkey no limit applies.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from typing import Any, Final

import redis
from django.conf import settings
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from backoffice import models
from backoffice.api import problems
from events import valkey

log = logging.getLogger(__name__)

PAUSE_AFTER_FAILURE: Final = 1.0

# Generic cell rate algorithm: one number per caller, the time at which the whole burst is available again.
# Takes all or nothing. Returns the milliseconds to wait, 0 when the call is allowed. Valkey's clock is used.
TAKE: Final = """
local clock = redis.call('time')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local interval, burst, count = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local full = math.max(tonumber(redis.call('get', KEYS[1]) or 0), now) + count * interval
local wait = full - burst * interval - now
if wait > 0 then return math.ceil(wait) end
redis.call('set', KEYS[1], full, 'px', math.ceil(full - now) + 1000)
return 0
"""

_local = threading.local()
_silent_until = 0.0


class PerPrincipal(BaseThrottle):
    """Allows `API_RATE_PER_MINUTE` calls a minute for each key or person, and bursts of that size.

    A refusal has `Retry-After`.
    """

    waiting: float = 0

    def allow_request(self, request: Request, view: Any) -> bool:
        self.waiting = take(principal(request), settings.API_RATE_PER_MINUTE) / 1000
        return self.waiting == 0

    def wait(self) -> float:
        return math.ceil(self.waiting)


def principal(request: Request) -> str:
    """Returns the caller that is counted: ``key:<prefix>`` or ``staff:<id>``."""
    key = request.auth
    return f"key:{key.prefix}" if isinstance(key, models.ApiKey) else f"staff:{request.user.pk}"


def demand_commands(request: Request, count: int) -> None:
    """Counts the commands of a batch or queue against `API_COMMANDS_PER_MINUTE` before the first one is executed.

    Raises 413 for more than one minute's quota, which could never succeed, and 429 with `Retry-After`.
    """
    per_minute = settings.API_COMMANDS_PER_MINUTE
    if count <= 0 or per_minute <= 0:
        return
    if count > per_minute:
        raise problems.Problem(413, "too_large", f"Send at most {per_minute:,} commands at once.")
    waiting = take(f"{principal(request)}:commands", per_minute, count)
    if waiting:
        raise exceptions.Throttled(math.ceil(waiting / 1000))


def take(caller: str, per_minute: int, count: int = 1) -> int:
    """Counts calls or commands and returns the milliseconds to wait, 0 to proceed. Never raises."""
    global _silent_until  # noqa: PLW0603 - one pause for the whole process
    if per_minute <= 0 or time.monotonic() < _silent_until:
        return 0
    try:
        return int(
            _script()(keys=[f"{settings.REDIS_PREFIX}:rate:{caller}"], args=[60_000 / per_minute, per_minute, count])
        )
    except redis.RedisError as error:
        _silent_until = time.monotonic() + PAUSE_AFTER_FAILURE
        log.warning("rate limit: Valkey does not answer (%s); nobody is limited meanwhile", error)
        return 0


def _script() -> Any:
    if not hasattr(_local, "script"):
        client = valkey.client("request", retry=None)
        _local.script = client.register_script(TAKE)
    return _local.script
