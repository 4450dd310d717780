"""Samples in memory for `windows.register`, in place of the tables of the history."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from events import context, types
from events.commands import Result
from metrics.monitoring.alerting import judge, windows


class Samples:
    """Values by metric, target and slot. A slot is sampled once `put` or `tick` was called for it."""

    def __init__(self) -> None:
        self.slot = int(time.time()) // 5
        self._values: dict[tuple[str, str], dict[int, float]] = {}

    def window(self, metric: str, seconds: int, until: int, target: str = "") -> list[float | None]:
        found = self._values.get((metric, target), {})
        return [found.get(slot) for slot in range(until - seconds // 5 + 1, until + 1)]

    def targets(self, slot: int) -> Mapping[str, Mapping[str, float | None]]:
        found: dict[str, dict[str, float | None]] = {}
        for (metric, target), values in self._values.items():
            if slot in values:
                found.setdefault(metric, {})[target] = values[slot]
        return found

    def put(self, metric: str, slot: int, value: float | None, target: str = "") -> None:
        self._values.setdefault((judge.SAMPLER, ""), {})[slot] = 0.01
        if value is not None:
            self._values.setdefault((metric, target), {})[slot] = float(value)

    def tick(self, metric: str, values: Sequence[float | None], target: str = "") -> list[Result]:
        """Samples one slot for each value and judges it, as the sampler does."""
        results = []
        for value in values:
            self.slot += 1
            self.put(metric, self.slot, value, target)
            results += judge.judge(self.slot)
        return results

    def skip(self, slots: int) -> None:
        """Advances by some slots in which no sampler ran."""
        self.slot += slots


@contextmanager
def sampled() -> Iterator[Samples]:
    """Makes windows read these samples until the block ends."""
    before, found = (windows._read, windows._targets), Samples()
    windows.register(found.window, found.targets)
    try:
        yield found
    finally:
        windows.register(*before)


def do(name: str, key: str, data: Mapping[str, object], actor: str = "staff:7") -> Result:
    """Carries out a command as a person."""
    from events import commands

    with context.acting(actor=actor):
        command = types.Command(id=types.new_id(), key=key, data=types.decode_command(name, data))
        return commands.dispatch(command)
