"""Counts of this process since its start: requests, errors, durations, tasks.

`CountRequests` is the outermost ASGI application, so it also counts requests that no Django middleware sees: refused
bodies and static files. An error is a 5xx answer or an exception; a 4xx, or a client that leaves, is none. Counts only
grow: readers take differences, and sums over processes are sums of differences.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, TypeAlias

from metrics.monitoring import buckets

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

# Requested by machines every few seconds; they would hide the errors of people.
NOT_COUNTED: Final = frozenset({"/livez", "/readyz", "/metrics"})

# Positions in `Counts.numbers` and in the column `counts` of metrics_process. Append only.
REQUESTS, ERRORS, TASKS, FAILED_TASKS, CACHE_HITS, CACHE_MISSES = range(6)
SIZE: Final = 6


class Counts:
    """The counts of one process. Each number is written by one thread; readers copy."""

    def __init__(self) -> None:
        self.numbers = [0] * SIZE
        self.buckets = [0] * buckets.SIZE
        self.active_at: float | None = None  # `time.monotonic`, of the last request, task or message
        # The cache counts its own reads: (answered, not answered).
        self.cache_reads: Callable[[], tuple[int, int]] | None = None

    def request(self, seconds: float, *, failed: bool) -> None:
        self.numbers[REQUESTS] += 1
        self.numbers[ERRORS] += failed
        self.buckets[buckets.index(seconds)] += 1
        self.active()

    def task(self) -> None:
        self.numbers[TASKS] += 1
        self.active()

    def failed_task(self) -> None:
        self.numbers[FAILED_TASKS] += 1

    def snapshot(self) -> list[int]:
        """All numbers at this moment, those of the cache included."""
        numbers = list(self.numbers)
        if self.cache_reads is not None:
            numbers[CACHE_HITS], numbers[CACHE_MISSES] = self.cache_reads()
        return numbers

    def active(self) -> None:
        """Note that this process has just done some of its work."""
        self.active_at = time.monotonic()


counts: Final = Counts()


class CountRequests:
    """Counts the HTTP requests of an ASGI application; `on_request` is called before each of them."""

    def __init__(
        self, application: Application, on_request: Callable[[], None] | None = None, into: Counts = counts
    ) -> None:
        self._application, self._on_request, self._counts = application, on_request, into

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in NOT_COUNTED:
            await self._application(scope, receive, send)
            return
        if self._on_request is not None:
            self._on_request()
        status = 0

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        start = time.perf_counter()
        try:
            await self._application(scope, receive, observed)
        except asyncio.CancelledError:
            raise  # the client left
        except BaseException:
            self._counts.request(time.perf_counter() - start, failed=True)
            raise
        if status:
            self._counts.request(time.perf_counter() - start, failed=status >= 500)
