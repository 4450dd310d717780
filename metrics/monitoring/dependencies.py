"""The dependencies of the system, and the state of each: judged from the newest sample by one or more signals.

A state never comes from a missing value: what is not known is shown as unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from events import store
from metrics.monitoring import metric_types, units
from metrics.monitoring.alerting import conditions, defaults, models
from metrics.monitoring.alerting.rules import Comparison
from metrics.monitoring.history import read, tables
from metrics.monitoring.metric_types import POSITIONS, SLOT_SECONDS, Metric

State: TypeAlias = Literal["good", "warn", "bad", "unknown"]
Text: TypeAlias = str | Promise

Values: TypeAlias = Mapping[str, Mapping[str, float | None]]

STALE_SLOTS: Final = 6  # a newest sample that is older than 30 seconds does not describe the current state
LOOK_BACK_SLOTS: Final = 6 * tables.HOUR_SLOTS  # how far back the beginning of a state is searched
BY_LEVEL: Final[Sequence[State]] = ("good", "warn", "bad")


@dataclass(frozen=True, slots=True)
class Signal:
    """One metric of a dependency and its limits: beyond `warn` a warning, beyond `bad` a problem.

    With `rule` the limits are the present levels of that alert rule; `warn` and `bad` apply where it has no level.
    """

    metric: str
    warn: float | None = None
    bad: float | None = None
    rule: str = ""

    def level(self, value: float) -> int:
        """0: good, 1: warn, 2: bad."""
        return 2 if self._is_beyond(self.bad, value) else 1 if self._is_beyond(self.warn, value) else 0

    def _is_beyond(self, limit: float | None, value: float) -> bool:
        comparison: Comparison = "below" if metric_types.metric(self.metric).low_is_bad else "above"
        return limit is not None and conditions.beyond(comparison, limit, value)

    def with_levels(self, rules: Mapping[str, tuple[float | None, float | None]]) -> Signal:
        """The signal with the limits of its rule; `rules` maps ids to warning and critical levels."""
        if not self.rule:
            return self
        warn, critical = rules.get(self.rule, (None, None))
        return replace(self, warn=self.warn if warn is None else warn, bad=self.bad if critical is None else critical)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """Something that the system needs: its signals, what users notice without it, and what to do.

    The first signal is the essential one: without its value the others, such as a count of failures, prove nothing.
    `missing` describes that; an `optional` dependency is left out then.
    """

    name: str
    label: Text
    signals: tuple[Signal, ...]
    effect: Text
    remedy: Text
    missing: Text = ""
    page: str = ""
    optional: bool = False


@dataclass(frozen=True, slots=True)
class DependencyStatus:
    """A dependency for display. `since`: when its state began; None: longer ago than is searched, or not known."""

    dependency: Dependency
    state: State
    reason: str
    since: datetime | None
    is_old: bool

    @property
    def look(self) -> str:
        return {"good": "good", "warn": "warn", "bad": "bad", "unknown": "warn"}[self.state]


DEPENDENCIES: Final = (
    Dependency(
        name="database",
        label=gettext_lazy("PostgreSQL"),
        signals=(
            Signal("db.connections", rule="database_connections"),
            Signal("db.oldest_transaction", rule="old_transaction"),
            Signal("db.blocked", rule="blocked_sessions"),
            Signal("db.latency", 0.1, 1.0),
        ),
        effect=gettext_lazy("Pages and changes become slow; without it nothing can be read or saved."),
        remedy=gettext_lazy("Look for long transactions and locks in pg_stat_activity, and for free connections."),
        missing=gettext_lazy("Its sessions are not known: grant pg_read_all_stats to the login of this application."),
    ),
    Dependency(
        name="log",
        label=gettext_lazy("Head of the log"),
        signals=(Signal("log.head_lag", bad=60, rule="head_held_back"),),
        effect=gettext_lazy("New events appear late on pages, in subscriptions and in the API. None is lost."),
        remedy=gettext_lazy("Find the transaction that holds the head back, and end it."),
        page="admin:system_head",
    ),
    Dependency(
        name="subscriptions",
        label=gettext_lazy("Subscriptions"),
        signals=(
            Signal("subscription.lag", rule="subscription_late"),
            Signal("subscriptions.parked", rule="parked_streams"),
        ),
        effect=gettext_lazy("Counters and live pages fall behind the log."),
        remedy=gettext_lazy("Check that run_subscriptions is running; replay or skip parked events."),
        page="admin:system_subscriptions",
    ),
    Dependency(
        name="sockets",
        label=gettext_lazy("Live connections"),
        signals=(
            Signal("sockets.polling", rule="sockets_polling"),
            Signal("sockets.lag_p99", bad=10.0, rule="sockets_lag"),
        ),
        effect=gettext_lazy("Open pages show changes up to a second late."),
        remedy=gettext_lazy("Check Valkey and the relay of run_subscriptions."),
        missing=gettext_lazy("No process reports: Valkey is unreachable, or no page is open."),
        page="admin:system_sockets",
    ),
    Dependency(
        name="requests",
        label=gettext_lazy("Requests"),
        signals=(Signal("errors.rate", rule="high_error_rate"), Signal("requests.p95", rule="slow_requests")),
        effect=gettext_lazy("People see error pages, or wait."),
        remedy=gettext_lazy("Read the log of the web processes; compare with the database and the host."),
        missing=gettext_lazy("No requests in the last five minutes."),
        optional=True,
    ),
    Dependency(
        name="valkey",
        label=gettext_lazy("Valkey"),
        signals=(
            Signal("valkey.reachable", bad=0.5, rule="valkey_unreachable"),
            Signal("valkey.memory", rule="valkey_memory"),
            Signal("valkey.evictions", rule="valkey_evictions"),
        ),
        effect=gettext_lazy("Live pages are slower and tasks wait. Nothing that is saved is lost."),
        remedy=gettext_lazy("Start it again, or give it more memory; maxmemory-policy must be noeviction."),
    ),
    Dependency(
        name="worker",
        label=gettext_lazy("Worker"),
        signals=(Signal("worker.age", warn=30, rule="worker_age"), Signal("tasks.failed", warn=0)),
        effect=gettext_lazy("E-mails, seals, refreshed figures and erasures wait."),
        remedy=gettext_lazy("Start a worker: celery -A backoffice worker. Its log names tasks that fail."),
        missing=gettext_lazy("No worker has finished a task yet."),
    ),
    Dependency(
        name="queue",
        label=gettext_lazy("Task queue"),
        signals=(Signal("queue.age", rule="queue_age"), Signal("queue.depth", rule="queue_depth")),
        effect=gettext_lazy("Tasks start late."),
        remedy=gettext_lazy("Start more workers, or look for a task that blocks them."),
        missing=gettext_lazy("The queue cannot be read: Valkey is unreachable."),
    ),
    Dependency(
        name="beat",
        label=gettext_lazy("Scheduler"),
        signals=(Signal("beat.age", rule="beat_age"),),
        effect=gettext_lazy("Scheduled tasks do not run. Metrics are sampled by run_subscriptions instead."),
        remedy=gettext_lazy("Start run_subscriptions, which sends them, and look at its log."),
        missing=gettext_lazy("No scheduler has sent a task yet."),
    ),
    Dependency(
        name="seals",
        label=gettext_lazy("Seals"),
        signals=(Signal("seal.age", 900),),
        effect=gettext_lazy("Later changes to the newest events could not be proved."),
        remedy=gettext_lazy("Check the worker, or run: manage.py seal_events."),
        page="admin:system_head",
    ),
    Dependency(
        name="views",
        label=gettext_lazy("Materialized views"),
        signals=(Signal("views.age", bad=3600, rule="views_late"),),
        effect=gettext_lazy("Figures about users and days are out of date; the page shows their age."),
        remedy=gettext_lazy("Check the worker, or run: manage.py refresh_views."),
        missing=gettext_lazy("They have not been computed yet."),
        optional=True,
    ),
    Dependency(
        name="hosts",
        label=gettext_lazy("Hosts"),
        signals=(
            Signal("cpu.percent", rule="high_cpu"),
            Signal("memory.percent", rule="high_memory"),
            Signal("disk.free", rule="disk_full"),
            Signal("host.skew", rule="clock_skew"),
        ),
        effect=gettext_lazy("Everything on this host becomes slow; without disk space nothing can be saved."),
        remedy=gettext_lazy("Find the process that uses the most, free disk space, or synchronise the clock."),
        missing=gettext_lazy("No process has reported its host in the last seconds."),
    ),
    Dependency(
        name="certificate",
        label=gettext_lazy("Certificate"),
        signals=(Signal("tls.days_left", rule="certificate"),),
        effect=gettext_lazy("Browsers refuse the site once it has expired."),
        remedy=gettext_lazy("Renew it; the proxy usually does so 30 days before."),
        optional=True,
    ),
)


def statuses(*, since: bool = True) -> list[DependencyStatus]:
    """The status of the sampler and of every dependency, the worst first. `since`: search when each state began."""
    slot, present = read.newest_slot(), tables.present_slot()
    sampler = _sampler(slot, present)
    if sampler.state == "bad" or slot is None:
        return [sampler]
    values, levels = read.targets(slot), _levels()
    judged = [replace(one, signals=tuple(each.with_levels(levels) for each in one.signals)) for one in DEPENDENCIES]
    found = [status for one in judged if (status := _status(one, slot, values, since)) is not None]
    return sorted([sampler, *found], key=lambda status: -_rank(status.state))


def _levels() -> dict[str, tuple[float | None, float | None]]:
    """The warning and the critical level of each default rule, with changes by people if the rule judges the same."""
    stored = models.by_id(models.Rule.objects.filter(deleted_at=None))
    found = {}
    for key, default in defaults.RULES.items():
        row = stored.get(key)
        if row is not None and all(getattr(row, name) == getattr(default, name) for name in _JUDGED):
            found[key] = (row.warn, row.critical)
        else:
            found[key] = (default.warn, default.critical)
    return found


_JUDGED: Final = ("metric", "comparison", "per")


def _rank(state: State) -> int:
    return {"good": 0, "unknown": 1, "warn": 2, "bad": 3}[state]


SAMPLER: Final = Dependency(
    name="sampler",
    label=gettext_lazy("Sampler"),
    signals=(),
    effect=gettext_lazy("This page and the charts are not current, and no alert is raised."),
    remedy=gettext_lazy("Start beat with a worker, run_subscriptions, or manage.py check_alerts --loop."),
)


def _sampler(slot: int | None, present: int) -> DependencyStatus:
    if slot is None:
        return DependencyStatus(SAMPLER, "bad", _("There is no sample of the last day."), None, is_old=False)
    age = (present - slot) * SLOT_SECONDS
    state: State = "bad" if present - slot > STALE_SLOTS else "good"
    reason = _("The newest sample is %(time)s old.") % {"time": units.text(float(age), "s")}
    return DependencyStatus(SAMPLER, state, reason, _instant(slot) if state == "bad" else None, is_old=False)


def _status(
    dependency: Dependency, slot: int, values: Mapping[str, Mapping[str, float | None]], since: bool
) -> DependencyStatus | None:
    """The status by the worst signal; None for an optional dependency that has no value."""
    judged: list[tuple[int, int, Signal, Metric, str, float]] = []
    for order, signal in enumerate(dependency.signals):
        metric = metric_types.metric(signal.metric)
        known = {target: value for target, value in values.get(signal.metric, {}).items() if value is not None}
        if known:
            pick: Callable[..., str] = min if metric.low_is_bad else max
            target = pick(known, key=lambda name: known[name])
            judged.append((signal.level(known[target]), -order, signal, metric, target, known[target]))
    is_known = any(order == 0 for _level, order, *_rest in judged)
    if not is_known and not any(level for level, *_rest in judged):
        if dependency.optional:
            return None
        reason = str(dependency.missing or _("There is no value in the newest sample."))
        return DependencyStatus(dependency, "unknown", reason, None, is_old=False)
    level, _order, signal, metric, target, value = max(judged, key=lambda one: one[:2])
    began, is_old = _since(signal, metric, target, level, slot) if since else (None, False)
    return DependencyStatus(dependency, BY_LEVEL[level], _reason(metric, target, value), began, is_old)


def _reason(metric: Metric, target: str, value: float) -> str:
    shown = {"metric": metric.label, "value": units.text(value, metric.unit), "target": target}
    if target:
        return _("%(metric)s: %(value)s (%(target)s)") % shown
    return _("%(metric)s: %(value)s") % shown


# The last slot in which the level was another one, and the first slot of all.
CHANGED = """
select max(slot) filter (where (case when {beyond_bad} then 2 when {beyond_warn} then 1 else 0 end) <> %(level)s),
       min(slot)
  from metrics_sample
 where source = %(source)s and slot > %(after)s and slot <= %(until)s and v[%(position)s] is not null
"""


def _since(signal: Signal, metric: Metric, target: str, level: int, slot: int) -> tuple[datetime | None, bool]:
    """The instant at which the level began, and whether it began before everything that was searched."""
    compare = "<" if metric.low_is_bad else ">"
    beyond = {
        f"beyond_{name}": f"v[%(position)s] {compare} %({name})s" if limit is not None else "false"
        for name, limit in (("bad", signal.bad), ("warn", signal.warn))
    }
    asked = {
        "source": metric_types.source(metric.group, target),
        "position": POSITIONS[metric.name] + 1,
        "after": slot - LOOK_BACK_SLOTS,
        "until": slot,
        "level": level,
        "bad": signal.bad,
        "warn": signal.warn,
    }
    other, first = store.query(CHANGED.format(**beyond), asked)[0]
    if other is not None:
        return _instant(other + 1), False
    if first is not None and first > slot - LOOK_BACK_SLOTS + tables.MINUTE_SLOTS:
        return _instant(first), False
    return None, True


def _instant(slot: int) -> datetime:
    return datetime.fromtimestamp(slot * SLOT_SECONDS, UTC)
