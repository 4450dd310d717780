"""Samples the cluster once in five seconds.

Any process may call `tick`; the slot's primary key lets one of them do it.

    1  slot     of the clock of the database, claimed by an insert; another process has it: stop
    2  probe    everything at once, each for at most a second; a failed probe is missing
    3  write    one array for each source
    4  publish  one frame `system.metrics`; on the dashboard a frame for each right
    5  follow   the steps that sections add: roll up, judge rules, send notifications, heartbeat

A tick that dies leaves a gap and never half a state. A step that fails stops no other. Nothing here needs Valkey or
Celery: they are watched.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import msgspec
import psycopg
from django.db import InterfaceError, OperationalError, connection

from events import errors
from metrics.monitoring import metric_types, process_reports
from metrics.monitoring.history import read, rollup, tables, write
from metrics.monitoring.probes import differences, table
from metrics.monitoring.probes.readings import Readings
from realtime import publish

log = logging.getLogger(__name__)

# Called with the slot after its samples are stored.
Step: TypeAlias = Callable[[int], object]

# Steps after the sample, in this order; `metrics.wiring` and sections set them.
STEPS: tuple[Step, ...] = ()
# Called in each tick with whether PostgreSQL answers: without it there is no slot, no step and no alert.
WATCHERS: tuple[Callable[[bool], object], ...] = ()
# The pending rules at a slot, for the frame `system.metrics`; `metrics.wiring` sets it.
PENDING: Callable[[int], Any] | None = None

AWAY: Final = (errors.StoreUnavailable, psycopg.OperationalError, OperationalError, InterfaceError)
_away: Final = threading.Event()

FRAME: Final = "system.metrics"
LEAST_GAP: Final = 2  # slots without a sample before the fallback takes over


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a tick: its slot, the values by (metric, target), the probes that failed."""

    slot: int
    previous: int | None
    values: Readings
    failed: dict[str, str]


def tick() -> int | None:
    """Sample the present slot; returns it, or None when another process has it or PostgreSQL does not answer."""
    try:
        sample = take()
    except AWAY as error:
        note_failure(error)
        return None
    return None if sample is None else sample.slot


def take() -> Sample | None:
    """Run steps 1 to 5; see `tick`. Raises one of `AWAY` when PostgreSQL does not answer."""
    slot = tables.present_slot()
    _inform_watchers(answers=True)
    _ensure_partitions(slot)
    if not write.claim(slot):
        return None
    previous = write.previous(slot)
    found = table.run(slot)
    own = {("sampler.seconds", ""): found.seconds, ("probe.errors", ""): float(len(found.failed))}
    sample = Sample(slot=slot, previous=previous, values={**found.values, **own}, failed=found.failed)
    write.values(slot, sample.values)
    for step in (_publish_sample(sample), *STEPS):
        _follow(step, slot)
    return sample


def note_failure(error: Exception) -> None:
    """Inform the watchers that PostgreSQL does not answer; logged when it begins, not in every slot."""
    if not _away.is_set():
        log.warning("no sample: %s", error)
    _away.set()
    _inform_watchers(answers=False)


def _inform_watchers(*, answers: bool) -> None:
    if answers and _away.is_set():
        log.info("PostgreSQL answers again")
        _away.clear()
    for watcher in WATCHERS:
        try:
            watcher(answers)
        except Exception:
            log.exception("the watcher %s failed", getattr(watcher, "__qualname__", watcher))


def _follow(step: Step, slot: int) -> None:
    try:
        step(slot)
    except Exception:
        log.exception("the step %s failed at slot %s", getattr(step, "__qualname__", step), slot)


_partitions_until: dict[str, int] = {}  # database -> the day whose partitions exist


def _ensure_partitions(slot: int) -> None:
    """Create partitions once a day and process, before the first sample of the day needs them."""
    day, database = slot // tables.DAY_SLOTS, connection.settings_dict["NAME"]
    if _partitions_until.get(database) != day:
        tables.create_partitions(slot)
        _partitions_until[database] = day


# -- publish ----------------------------------------------------------------------------------------------------------


def _publish_sample(sample: Sample) -> Step:
    def publish_sample(slot: int) -> None:
        pending = PENDING(slot) if PENDING else {}
        for topic, key, values in frames(sample):
            data = {"slot": sample.slot, "previous": sample.previous, "values": values, "pending": pending}
            publish.ephemeral(topic, FRAME, data, key=key)

    return publish_sample


def frames(sample: Sample) -> list[tuple[str, str, dict[str, float | None]]]:
    """The frames of a sample as (topic, key, values): all values for `system`, those of one right on the dashboard.

    Of several targets the worst value; a chart of one target reads the history.
    """
    values = worst(sample.values)
    by_right: dict[str, dict[str, float | None]] = {}
    for name, value in values.items():
        by_right.setdefault(metric_types.metric(name).right, {})[name] = value
    return [("system", FRAME, values), *(("dashboard", f"{WIDGET}_{right}", some) for right, some in by_right.items())]


# The dashboard checks a value by its widget (`Section.widgets`): one for each right that metrics need.
WIDGET: Final = "metrics"
SCOPES: Final = {"user": "users:read", "submission": "submissions:read", "conflict": "conflicts:read"}


def widgets() -> dict[str, tuple[str, str, str]]:
    """The right of each frame on the dashboard, for `Section.widgets`."""
    rights = {metric.right for metric in metric_types.METRICS.values()}
    return {f"{WIDGET}_{right}": ("view", right, SCOPES.get(right, "system:read")) for right in sorted(rights)}


def worst(values: Readings) -> dict[str, float | None]:
    """The value of each metric, of several targets the worst one; None where it is missing."""
    by_metric: dict[str, dict[str, float | None]] = {}
    for (name, target), value in values.items():
        by_metric.setdefault(name, {})[target] = value
    return {
        metric.name: _rounded(read.worst(metric, by_metric.get(metric.name, {})))
        for metric in metric_types.METRICS.values()
    }


def _rounded(value: float | None) -> float | None:
    """The value with six digits, as many as a `real` keeps: a frame is sent to every dashboard."""
    return None if value is None else float(f"{value:.6g}")


# -- the history's own steps ------------------------------------------------------------------------------------------


def keep_history(slot: int) -> None:
    """Roll up the buckets that have closed; once an hour delete rows that have expired."""
    rollup.roll_up(slot)
    if slot % tables.HOUR_SLOTS == 0:
        process_reports.expire()
        differences.expire(slot)
        for name in tables.drop_expired():
            log.info("dropped %s: it has expired", name)
