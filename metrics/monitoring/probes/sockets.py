"""Probe of the sockets, from the reports of the web processes in Valkey; without Valkey they are missing."""

from __future__ import annotations

from typing import Final

from metrics.monitoring.probes import differences
from metrics.monitoring.probes.readings import Readings
from realtime import cluster

BAD_CODES: Final = frozenset({"1006", "1011", "4408"})


def read(slot: int) -> Readings:
    reports = cluster.reports()
    lags = [report.lag_p99 for report in reports if report.lag_p99 is not None]
    closes = {f"closes:{report.process}": float(sum(report.closes.values())) for report in reports}
    bad = {
        f"bad_closes:{report.process}": float(sum(n for code, n in report.closes.items() if code in BAD_CODES))
        for report in reports
    }
    grown = differences.since_last_slot(slot, closes | bad)
    return {
        ("sockets.open", ""): sum(report.sockets for report in reports),
        ("sockets.lag_p99", ""): max(lags, default=None),
        ("sockets.delivered", ""): sum(report.delivered for report in reports),
        ("sockets.polling", ""): sum(not (report.valkey and report.relay) for report in reports),
        ("sockets.closes", ""): sum(grown.get(name, 0) for name in closes),
        ("sockets.bad_closes", ""): sum(grown.get(name, 0) for name in bad),
    }
