"""A request for the content of tiles: the reader, and the range of time that charts show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, TypeVar
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from metrics.monitoring.history import ranges, tables
from metrics.monitoring.metric_types import SLOT_SECONDS

T = TypeVar("T")

DEFAULT_RANGE: Final = "1h"
RANGES: Final[dict[str, str | Promise]] = {
    "15m": _("15 minutes"),
    "1h": _("1 hour"),
    "6h": _("6 hours"),
    "24h": _("24 hours"),
    "7d": _("7 days"),
    "30d": _("30 days"),
    "90d": _("90 days"),
    "1y": _("1 year"),
}


@dataclass(frozen=True, slots=True)
class Span:
    """The range of the charts: `name` up to now, or from `start` to `end` as typed, which is not live."""

    name: str = DEFAULT_RANGE
    start: str = ""
    end: str = ""

    @property
    def live(self) -> bool:
        return not self.start

    @property
    def query(self) -> dict[str, str]:
        """The parameters of the range in an address."""
        return {"range": self.name} if self.live else {"from": self.start, "to": self.end}

    @property
    def address(self) -> str:
        return urlencode(self.query)

    def resolved(self) -> ranges.Range:
        """The range as instants. Raises `ranges.BadRange`."""
        if not self.live:
            return ranges.between(self.start, self.end, zone())
        now = datetime.fromtimestamp((tables.present_slot() + 1) * SLOT_SECONDS, UTC)
        return ranges.parse(self.name, now, zone())


def zone() -> ZoneInfo:
    return ZoneInfo(timezone.get_current_timezone_name())


def span_of(parameters: Mapping[str, str]) -> Span:
    """The range that an address asks for; the default where it asks for none. Raises `ranges.BadRange`."""
    start, end = parameters.get("from", ""), parameters.get("to", "")
    if start or end:
        span = Span("", start, end or timezone.localdate().isoformat())
        if not start:
            raise ranges.BadRange("from", "from is missing.")
    else:
        span = Span(parameters.get("range") or DEFAULT_RANGE)
    span.resolved()
    return span


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """The request for a widget's content: its reader, size, options and range."""

    staff: Any
    w: int
    h: int
    tile: str = ""  # its id, for ids of elements
    options: Any = None
    span: Span = field(default_factory=Span)
    memo: dict[str, Any] = field(default_factory=dict)  # shared by the tiles of one page

    def once(self, name: str, load: Callable[[], T]) -> T:
        """The result of `load`, which is called once for all tiles of a page."""
        if name not in self.memo:
            self.memo[name] = load()
        found: T = self.memo[name]
        return found
