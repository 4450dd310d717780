"""The distribution of times: growth over months, less activity at weekends and at night.

Times are generated in order without sorting: time `i` of `n` is where the accumulated weight reaches `i / n`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Final

WEEKDAYS: Final = (1.15, 1.25, 1.2, 1.1, 0.95, 0.5, 0.45)
HOURS: Final = (
    0.12, 0.08, 0.05, 0.04, 0.05, 0.1, 0.3, 0.7, 1.2, 1.7, 1.9, 1.8,
    1.4, 1.5, 1.8, 1.75, 1.6, 1.4, 1.2, 1.1, 1.15, 0.95, 0.6, 0.3,
)  # fmt: skip
HOUR: Final = timedelta(hours=1)


class Rhythm:
    """The weight of each hour from `start` to `end`; the activity grows by the factor `growth`."""

    def __init__(self, start: datetime, end: datetime, growth: float = 1.0) -> None:
        self.start, self.end = start, end
        hours = max(1, int((end - start) / HOUR))
        self._length: timedelta = (end - start) / hours
        moments = (start + number * self._length for number in range(hours))
        weights: Iterator[float] = (
            growth ** (number / hours) * WEEKDAYS[moment.weekday()] * HOURS[moment.hour]
            for number, moment in enumerate(moments)
        )
        self._sums: list[float] = [0.0, *accumulate(weights)]

    def at(self, share: float) -> datetime:
        """The time by which this share (0 to 1) of all activity has happened."""
        wanted = min(max(share, 0.0), 1.0) * self._sums[-1]
        hour = min(bisect_right(self._sums, wanted) - 1, len(self._sums) - 2)
        within = (wanted - self._sums[hour]) / (self._sums[hour + 1] - self._sums[hour])
        moment: datetime = self.start + (hour + within) * self._length
        return moment

    def share(self, moment: datetime) -> float:
        """The share of all activity up to a time: the inverse of `at`."""
        hours: float = (min(max(moment, self.start), self.end) - self.start) / self._length
        hour = min(int(hours), len(self._sums) - 2)
        within = self._sums[hour + 1] - self._sums[hour]
        return (self._sums[hour] + (hours - hour) * within) / self._sums[-1]
