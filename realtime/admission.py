"""Admission control: limits on connections, handshakes and frames, all in this process's memory."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from typing import Final

from realtime import conf

# Addresses remembered for the handshake rate; the least recently seen are forgotten first.
ADDRESSES: Final = 10_000


class Bucket:
    """A token bucket: `rate` tokens a second, at most `burst` at once."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate, self._burst, self._tokens, self._at = rate, burst, burst, now

    def take(self, now: float) -> bool:
        """Take one token. Returns False when there is none."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class AdmissionControl:
    """Counts the handshakes and connections of this process against their limits."""

    def __init__(self, limits: conf.Limits) -> None:
        self._limits = limits
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()
        self.by_address: Counter[str] = Counter()
        self.by_person: Counter[str] = Counter()
        self.open = 0
        self.handshakes = asyncio.Semaphore(limits.handshakes_at_once)

    def refuses(self, address: str, now: float) -> str | None:
        """The reason to refuse a handshake from this address; None when it may proceed."""
        if self.open >= self._limits.connections:
            return "too many connections"
        if self.by_address[address] >= self._limits.connections_per_address:
            return "too many connections from this address"
        bucket = self._buckets.get(address)
        if bucket is None:
            per_minute = self._limits.handshakes_per_minute
            bucket = self._buckets[address] = Bucket(per_minute / 60, per_minute, now)
            if len(self._buckets) > ADDRESSES:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(address)
        return None if bucket.take(now) else "too many handshakes"

    def refuses_person(self, person: str) -> bool:
        """True when the person has as many connections as allowed."""
        return self.by_person[person] >= self._limits.connections_per_person

    def enter(self, address: str, person: str) -> None:
        """Count a connection that was accepted."""
        self.open += 1
        self.by_address[address] += 1
        self.by_person[person] += 1

    def leave(self, address: str, person: str) -> None:
        """Stop counting a connection that has ended."""
        self.open -= 1
        for counter, key in ((self.by_address, address), (self.by_person, person)):
            counter[key] -= 1
            if not counter[key]:
                del counter[key]
