"""Operator page for live connections: the sockets of every web process, the relay, and their problems."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from django.http import HttpRequest, HttpResponse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from events import head
from events.subscriptions import status
from events.subscriptions.status import CheckpointStatus
from metrics.monitoring import operator_action
from metrics.monitoring.operator_action import OperatorPages, Route
from realtime import cluster, frames, local_hub, relay

# A process that has not reported for this long may hang (it reports every two seconds).
SILENT: Final = 3 * cluster.REPORT_SECONDS
# Positions behind the head from which a process counts as behind: more than a busy second appends.
BEHIND: Final = 500

# Close code -> its label, and whether it indicates a problem.
CODES: Final[dict[str, tuple[str | Promise, bool]]] = {
    "1000": (gettext_lazy("closed by the client"), False),
    "1001": (gettext_lazy("page closed"), False),
    "1005": (gettext_lazy("closed without a code"), False),
    "1006": (gettext_lazy("connection lost"), False),
    str(frames.TOO_BIG): (gettext_lazy("message too big"), True),
    str(frames.INTERNAL): (gettext_lazy("internal error"), True),
    str(frames.GOING_AWAY): (gettext_lazy("server restarted"), False),
    str(frames.TRY_LATER): (gettext_lazy("database did not answer"), True),
    str(frames.RECONNECT): (gettext_lazy("asked to reconnect"), False),
    str(frames.SLOW): (gettext_lazy("client too slow"), True),
    str(frames.TOO_MANY): (gettext_lazy("too many connections"), True),
    str(frames.PROTOCOL): (gettext_lazy("protocol error"), True),
    str(frames.VERSION): (gettext_lazy("unknown version"), True),
    str(frames.FORBIDDEN): (gettext_lazy("not allowed"), True),
    str(frames.REVOKED): (gettext_lazy("session revoked"), False),
}


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """A web process for display: its state (`look`: good, warn, bad) and how far it is behind the head."""

    report: cluster.ProcessReport
    word: str
    look: str
    started: datetime
    late: int
    own: bool


@dataclass(frozen=True, slots=True)
class Totals:
    """The sums over all processes; the lag is that of the slowest process."""

    sockets: int
    behind: int
    delivered: float
    lag_p50: float | None
    lag_p99: float | None


@dataclass(frozen=True, slots=True)
class CloseRow:
    """A close code and how often it occurred."""

    code: str
    word: str | Promise
    worry: bool
    number: int


class LiveConnectionPages(OperatorPages):
    def routes(self) -> Sequence[Route]:
        return (Route("sockets/", "sockets", self.index),)

    @operator_action.page
    def index(self, request: HttpRequest) -> HttpResponse:
        reports, complete = known()
        safe = head.safe()
        rows = [row(report, safe) for report in reports]
        runner = next((one for one in status.checkpoint_statuses() if one.name == relay.NAME), None)
        context: dict[str, Any] = {
            "title": _("Live connections"),
            "together": complete,
            "rows": rows,
            "totals": totals(reports),
            "closes": closes(reports),
            "counts": counts(reports),
            "head": safe,
            "relay": runner,
            "relay_runs_on": _runner_process(runner),
            "well": complete and bool(rows) and all(one.look == "good" for one in rows),
        }
        return self.render(request, "sockets", context)


def known() -> tuple[list[cluster.ProcessReport], bool]:
    """The reports of all processes and True; without Valkey only that of this process, and False."""
    try:
        return cluster.reports(), True
    except cluster.Unreachable:
        own = local_hub.report()
        return ([own] if own else []), False


# -- display --------------------------------------------------------------------------------------------------------


def row(report: cluster.ProcessReport, safe: int) -> ProcessRow:
    late = max(0, safe - report.position)
    word, look = _state(report, late)
    own = local_hub.report()
    started = datetime.fromtimestamp(report.started_at, UTC)
    return ProcessRow(report, word, look, started, late, own is not None and own.process == report.process)


def _state(report: cluster.ProcessReport, late: int) -> tuple[str, str]:
    """The label and the style of the most serious problem."""
    problems = (
        (time.time() - report.at > SILENT, _("does not report"), "bad"),
        (report.draining, _("closing its sockets"), "warn"),
        (not report.store, _("cannot read the log"), "bad"),
        (not report.valkey, _("no connection to Valkey: polling"), "warn"),
        (not report.relay, _("nothing from the relay: polling"), "warn"),
        (late > BEHIND, _("behind the log"), "warn"),
    )
    return next(((word, look) for present, word, look in problems if present), (_("live"), "good"))


def totals(reports: Sequence[cluster.ProcessReport]) -> Totals:
    def slowest(lags: list[float | None]) -> float | None:
        return max((lag for lag in lags if lag is not None), default=None)

    return Totals(
        sockets=sum(report.sockets for report in reports),
        behind=sum(report.behind for report in reports),
        delivered=sum(report.delivered for report in reports),
        lag_p50=slowest([report.lag_p50 for report in reports]),
        lag_p99=slowest([report.lag_p99 for report in reports]),
    )


def closes(reports: Sequence[cluster.ProcessReport]) -> list[CloseRow]:
    """Close codes since the processes started, the most frequent first."""
    together: Counter[str] = Counter()
    for report in reports:
        together.update(report.closes)
    found = []
    for code, number in together.most_common():
        word, worry = CODES.get(code, (gettext_lazy("a code defined by the client"), False))
        found.append(CloseRow(code, word, worry, number))
    return found


def counts(reports: Sequence[cluster.ProcessReport]) -> list[tuple[str, str, int]]:
    """The other counters since the processes started: name, explanation, value."""
    counters = (
        (_("Gap fills"), _("gaps filled from the log"), "fills"),
        (_("Credit waits"), _("times a client was slower than the log"), "credit_waits"),
        (_("Drops"), _("ephemeral values dropped"), "drops"),
        (_("Resets"), _("clients asked to reload"), "resets"),
        (_("Refusals"), _("handshakes refused"), "refusals"),
        (_("Revocations"), _("sockets closed or checked again by an event"), "revocations"),
    )
    return [(name, what, sum(getattr(report, field) for report in reports)) for name, what, field in counters]


def _runner_process(runner: CheckpointStatus | None) -> tuple[str, str] | None:
    """The host and the process id of the relay's runner; None without a lease."""
    if runner is None or not runner.owner:
        return None
    host, pid, _rest = runner.owner.rsplit(":", 2)
    return host, pid
