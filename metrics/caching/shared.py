"""The level in Valkey, which all processes share: values with their stamp, and a lease for each load.

Valkey may be unreachable, half-open, stopped, flushed or restored from an old dump. Then reads are slower, but neither
wrong nor an error: every call has a short timeout, one failure stops all calls for about a second, and a value from
Valkey is judged by its stamp like an entry in memory.

Ages are measured by Valkey's own clock, so the clocks of two machines are never compared. A value and the lease of its
load are two keys: a load that fails changes no value.
"""

from __future__ import annotations

import logging
import random
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import redis
from django.conf import settings

from events import valkey

log = logging.getLogger(__name__)

T = TypeVar("T")

OPEN_SECONDS: Final = 1.0

# Something else at our keys is removed: a value that is no hash of numbers, or that never ends, as a lease that never
# ends. Every call would meet it, and its error would stop the calls for all keys.
OURS: Final = """
local function stored(key)
  local kind = redis.call('TYPE', key).ok
  if kind == 'none' then return nil end
  if kind == 'hash' and redis.call('PTTL', key) ~= -1 then
    local h = redis.call('HMGET', key, 'epoch', 'asof', 'until', 'at', 'value')
    local asof, ends, at = tonumber(h[2]), tonumber(h[3]), tonumber(h[4])
    if h[1] and h[5] and asof and ends and at and asof < 2^53 and ends < 2^53 and at < 2^53 then
      return {epoch = h[1], asof = asof, ends = ends, at = at, value = h[5]}
    end
  end
  redis.call('DEL', key)
  return nil
end
local lease = redis.call('TYPE', KEYS[2]).ok
if lease ~= 'none' and (lease ~= 'string' or redis.call('PTTL', KEYS[2]) == -1) then redis.call('DEL', KEYS[2]) end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
"""

# 1 a value of this epoch, as of `lowest` or later, that holds long enough  2 else the lease, where it is free
# 3 else neither.
FETCH: Final = (
    OURS
    + """
local h = stored(KEYS[1])
if h and h.epoch == ARGV[1] and h.asof >= tonumber(ARGV[2]) and h.ends > now + tonumber(ARGV[5]) then
  return {string.format('%.0f', h.asof), string.format('%.0f', h.ends - now), string.format('%.6f', h.at), h.value}
end
if redis.call('SET', KEYS[2], ARGV[3], 'NX', 'PX', ARGV[4]) then return 1 end
return 0
"""
)

# Releases the lease if it is still this load's, and stores the value unless one of the same history is newer.
STORE: Final = (
    OURS
    + """
if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[2]) end
local h = stored(KEYS[1])
if h and h.epoch == ARGV[2] and h.asof > tonumber(ARGV[3]) then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'epoch', ARGV[2], 'asof', ARGV[3], 'until', now + ARGV[4], 'at', ARGV[5], 'value', ARGV[6])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
"""
)

RELEASE: Final = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class Found(NamedTuple):
    """A value from Valkey: its stamp, the seconds it has left, when it was loaded, and its bytes."""

    asof: int
    left: float
    at: float
    value: bytes


class Breaker:
    """Stops calls for about `OPEN_SECONDS` after a failure; then one call at a time tries again."""

    def __init__(self) -> None:
        self._open_until = 0.0
        self._trying = False
        self._lock = threading.Lock()
        self.used = False

    @property
    def state(self) -> str:
        """`ok`, `open` or `unused`, as in `figures.CacheReport`."""
        return "open" if self._open_until else "ok" if self.used else "unused"

    def call(self, work: Callable[[], T]) -> T | None:
        """The result of `work`; None while calls are stopped, and when it fails."""
        with self._lock:
            if self._open_until and (self._trying or time.monotonic() < self._open_until):
                return None
            self._trying = bool(self._open_until)
        self.used = True
        try:
            result = work()
        except (redis.RedisError, OSError, ValueError) as error:
            log.warning("the shared cache is not used for a second: %s", error)
            self._open_until = time.monotonic() + OPEN_SECONDS * random.uniform(0.75, 1.25)  # noqa: S311 - jitter
            return None
        else:
            self._open_until = 0.0
            return result
        finally:
            self._trying = False


class SharedCache:
    """Values and leases in Valkey. Every method returns None where Valkey cannot be used."""

    def __init__(self) -> None:
        self.breaker = Breaker()
        self._scripts: dict[Any, Sequence[Any]] = {}

    def fetch(
        self, key: str, epoch: str, lowest: int, token: str, lease_seconds: float, left: float = 0.0
    ) -> Found | bool | None:
        """A value that is usable for more than `left` seconds; else whether this call got the lease of its load."""

        def work() -> Found | bool:
            fetch, _, _ = self._prepared()
            limits = (int(lease_seconds * 1000), int(left * 1000))
            answer = fetch(keys=self._keys(key), args=(epoch, lowest, token, *limits))
            if isinstance(answer, list):
                asof, remaining, at, value = answer
                return Found(int(asof), int(remaining) / 1000, float(at), bytes(value))
            return bool(answer)

        return self.breaker.call(work)

    def store(self, key: str, token: str, epoch: str, found: Found) -> bool | None:
        """Store a value and release the lease; False where a newer value is there already."""

        def work() -> bool:
            _, store, _ = self._prepared()
            left = max(1, int(found.left * 1000))
            return bool(store(keys=self._keys(key), args=(token, epoch, found.asof, left, found.at, found.value)))

        return self.breaker.call(work)

    def remove(self, key: str) -> object:
        """Remove a value that cannot be read."""
        return self.breaker.call(lambda: valkey.shared_client("cache").delete(self._keys(key)[0]))

    def release(self, key: str, token: str) -> bool | None:
        """Release a lease without a value."""

        def work() -> bool:
            _, _, release = self._prepared()
            return bool(release(keys=self._keys(key)[1:], args=(token,)))

        return self.breaker.call(work)

    def _keys(self, key: str) -> tuple[str, str]:
        prefix = f"{settings.REDIS_PREFIX}:figures"
        return f"{prefix}:value:{key}", f"{prefix}:lease:{key}"

    def _prepared(self) -> Sequence[Any]:
        """The scripts on this process's client; it follows a change of `REDIS_URL`, such as tests make."""
        client = valkey.shared_client("cache")
        if client not in self._scripts:
            self._scripts = {client: [client.register_script(text) for text in (FETCH, STORE, RELEASE)]}
        return self._scripts[client]


def new_token() -> str:
    return uuid.uuid4().hex
