"""The materialized views, and how often they are refreshed."""

from __future__ import annotations

from typing import Final

import msgspec

PERIOD: Final = 300  # seconds between two refreshes by Celery beat
EXPIRES: Final = 240  # seconds after which a waiting task is dropped: the next one follows
REFRESH_LOCK: Final = "(17782, 2)"  # advisory: one refresh at a time
MISSED: Final = 3  # periods without a refresh after which a view is late


class View(msgspec.Struct, frozen=True, kw_only=True):
    """A materialized view.

    reads_counters  its content also depends on the counters, so it is as old as their checkpoint
    compared        its rows are the second opinion on the daily counters
    """

    name: str
    reads_counters: bool = False
    compared: bool = False


DAILY: Final = View(name="mv_daily_metrics", compared=True)
ANALYTICS: Final = View(name="mv_user_analytics", reads_counters=True)
VIEWS: Final = (DAILY, ANALYTICS)
