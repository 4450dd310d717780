"""Live connections: what every web process says of its sockets, the relay that feeds them, and what is the matter."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from django.contrib.admin import AdminSite
from django.http import HttpRequest, HttpResponse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from events import head
from events.subscriptions import runner as subscriptions
from events.subscriptions.runner import Status
from metrics.monitoring import operator_action
from realtime import cluster, frames, hub, relay

# A process that has not reported for this long may hang (it reports every two seconds).
SILENT: Final = 3 * cluster.EVERY
# Positions behind the head that are worth a word: a busy second.
BEHIND: Final = 500

# Close codes in words, and whether the number of them is a worry.
CODES: Final[dict[str, tuple[str | Promise, bool]]] = {
    "1000": (gettext_lazy("closed by the client"), False),
    "1001": (gettext_lazy("page closed"), False),
    "1005": (gettext_lazy("closed without a code"), False),
    "1006": (gettext_lazy("connection lost"), False),
    str(frames.TOO_BIG): (gettext_lazy("frame too big"), True),
    str(frames.INTERNAL): (gettext_lazy("internal error"), True),
    str(frames.GOING_AWAY): (gettext_lazy("server restarted"), False),
    str(frames.TRY_LATER): (gettext_lazy("database did not answer"), True),
    str(frames.RECONNECT): (gettext_lazy("asked to reconnect"), False),
    str(frames.SLOW): (gettext_lazy("reader too slow"), True),
    str(frames.TOO_MANY): (gettext_lazy("too many"), True),
    str(frames.PROTOCOL): (gettext_lazy("protocol error"), True),
    str(frames.VERSION): (gettext_lazy("unknown version"), True),
    str(frames.FORBIDDEN): (gettext_lazy("not allowed"), True),
    str(frames.REVOKED): (gettext_lazy("session revoked"), False),
}


@dataclass(frozen=True, slots=True)
class Row:
    """A process with a word for how it does (`look`: good, warn, bad) and how far it is behind the head."""

    report: cluster.Report
    word: str
    look: str
    started: datetime
    late: int
    own: bool


@dataclass(frozen=True, slots=True)
class Totals:
    """All processes together; the lag is that of the slowest."""

    sockets: int
    behind: int
    delivered: float
    lag_p50: float | None
    lag_p99: float | None


@dataclass(frozen=True, slots=True)
class Close:
    code: str
    word: str | Promise
    worry: bool
    number: int


@operator_action.page
def index(site: AdminSite, request: HttpRequest) -> HttpResponse:
    reports, together = known()
    safe = head.safe()
    rows = [row(report, safe) for report in reports]
    runner = next((status for status in subscriptions.status() if status.name == relay.NAME), None)
    context: dict[str, Any] = {
        "title": _("Live connections"),
        "together": together,
        "rows": rows,
        "totals": totals(reports),
        "closes": closes(reports),
        "counts": counts(reports),
        "head": safe,
        "relay": runner,
        "relay_runs_on": _place(runner),
        "well": together and bool(rows) and all(one.look == "good" for one in rows),
    }
    return operator_action.drawn(site, request, "sockets", context)


def known() -> tuple[list[cluster.Report], bool]:
    """The reports of all processes and True; without Valkey that of the process that answers, and False."""
    try:
        return cluster.reports(), True
    except cluster.Unreachable:
        own = hub.report()
        return ([own] if own else []), False


# -- what is shown --------------------------------------------------------------------------------------------------


def row(report: cluster.Report, safe: int) -> Row:
    late = max(0, safe - report.position)
    word, look = _state(report, late)
    own = hub.report()
    started = datetime.fromtimestamp(report.started_at, UTC)
    return Row(report, word, look, started, late, own is not None and own.process == report.process)


def _state(report: cluster.Report, late: int) -> tuple[str, str]:
    """The worst first."""
    worries = (
        (time.time() - report.at > SILENT, _("not responding"), "bad"),
        (report.draining, _("shutting down"), "warn"),
        (not report.store, _("cannot read the log"), "bad"),
        (not report.valkey, _("no connection to Valkey: polling"), "warn"),
        (not report.relay, _("no messages from the relay: polling"), "warn"),
        (late > BEHIND, _("behind the log"), "warn"),
    )
    return next(((word, look) for so, word, look in worries if so), (_("live"), "good"))


def totals(reports: Sequence[cluster.Report]) -> Totals:
    def slowest(lags: list[float | None]) -> float | None:
        return max((lag for lag in lags if lag is not None), default=None)

    return Totals(
        sockets=sum(report.sockets for report in reports),
        behind=sum(report.behind for report in reports),
        delivered=sum(report.delivered for report in reports),
        lag_p50=slowest([report.lag_p50 for report in reports]),
        lag_p99=slowest([report.lag_p99 for report in reports]),
    )


def closes(reports: Sequence[cluster.Report]) -> list[Close]:
    """Why sockets ended, since the processes started; the most frequent first."""
    together: Counter[str] = Counter()
    for report in reports:
        together.update(report.closes)
    found = []
    for code, number in together.most_common():
        word, worry = CODES.get(code, (gettext_lazy("custom code of the client"), False))
        found.append(Close(code, word, worry, number))
    return found


def counts(reports: Sequence[cluster.Report]) -> list[tuple[str, str, int]]:
    """What else was counted since the processes started: a name, what it means, how many."""
    told = (
        (_("Fills"), _("gaps that were read from the log"), "fills"),
        (_("Credit waits"), _("times a reader was slower than the log"), "credit_waits"),
        (_("Drops"), _("ephemeral values that were dropped"), "drops"),
        (_("Resets"), _("clients asked to reload"), "resets"),
        (_("Refusals"), _("handshakes refused"), "refusals"),
        (_("Revocations"), _("sockets closed or checked again by an event"), "revocations"),
    )
    return [(name, what, sum(getattr(report, field) for report in reports)) for name, what, field in told]


def _place(runner: Status | None) -> tuple[str, str] | None:
    """The host and process id of whoever holds the relay's lease."""
    if runner is None or not runner.owner:
        return None
    host, pid, _rest = runner.owner.rsplit(":", 2)
    return host, pid
