"""Time windows by local clock: quiet hours and recurring maintenance.

A window is a wall-clock interval, so an instant is inside when its local time is. Where clocks are put forward, the
skipped time does not exist; where they are put back, both passes of the repeated hour are inside.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

EVERY_DAY: Final = frozenset(range(7))


class DailyWindow(msgspec.Struct, frozen=True, kw_only=True):
    """A window from `start` to `end` (exclusive) in local time; it may cross midnight.

    `days` are those on which it starts, Monday = 0.
    """

    start: time
    end: time
    zone: str = "UTC"
    days: frozenset[int] = EVERY_DAY

    def covers(self, at: datetime) -> bool:
        """True when the instant is inside, judged by the local clock."""
        return self._day_of(at.astimezone(ZoneInfo(self.zone))) is not None

    def end_after(self, at: datetime) -> datetime:
        """The end of the window that covers `at`, in UTC; `at` itself when none does."""
        local = at.astimezone(ZoneInfo(self.zone))
        day = self._day_of(local)
        if day is None:
            return at
        last = day if self.start < self.end else day + timedelta(days=1)
        end = datetime.combine(last, self.end, ZoneInfo(self.zone))
        ends = [end.replace(fold=fold).astimezone(UTC) for fold in (0, 1)]
        return next((one for one in ends if one > at and not self.covers(one)), max(ends))

    def _day_of(self, local: datetime) -> date | None:
        """The day on which the window that covers this local time started."""
        now, today = local.time(), local.date()
        yesterday = today - timedelta(days=1)
        if self.start < self.end:
            return today if self.start <= now < self.end and today.weekday() in self.days else None
        if now >= self.start and today.weekday() in self.days:
            return today
        return yesterday if now < self.end and yesterday.weekday() in self.days else None
