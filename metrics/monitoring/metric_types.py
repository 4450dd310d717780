"""The metrics that are sampled every five seconds, with their units and the rights to see them.

A metric belongs to a group. Of `cluster` there is one series; of `host` and `subscription` one for each target. The
values of one group and target are one `real[]` in `metrics_sample`, so the order within a group is stored: append new
metrics at the end of their group, and leave removed ones in place (`kind="retired"`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

Group: TypeAlias = Literal["cluster", "host", "subscription"]
# gauge: a value at the instant. share: a gauge in percent. age: seconds since something. flag: 1 or 0.
# count: number in this slot, summed over time. percentile: of request durations; never averaged, see `buckets`.
Kind: TypeAlias = Literal["gauge", "share", "age", "flag", "count", "percentile", "retired"]
# percent, s, 1 (a number), 1/s, 1/min, GiB, days
Unit: TypeAlias = Literal["percent", "s", "1", "1/s", "1/min", "GiB", "days"]

SLOT_SECONDS: Final = 5


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `right`: the category whose `view` right shows it; `low_is_bad`: the worst target has the least."""

    name: str
    unit: Unit
    group: Group
    label: str | Promise
    right: str = "system"
    kind: Kind = "gauge"
    low_is_bad: bool = False


_CLUSTER: Final = (
    # -- database
    Metric("db.connections", "percent", "cluster", _("Database connections in use"), kind="share"),
    Metric("db.latency", "s", "cluster", _("Database round trip")),
    Metric("db.oldest_transaction", "s", "cluster", _("Oldest open transaction"), kind="age"),
    Metric("db.blocked", "1", "cluster", _("Sessions waiting for a lock")),
    Metric("db.deadlocks", "1", "cluster", _("Deadlocks"), kind="count"),
    Metric("db.xid_age", "1", "cluster", _("Age of the oldest transaction id")),
    Metric("db.cache_hit", "percent", "cluster", _("Database cache hits"), kind="share", low_is_bad=True),
    Metric("db.commits", "1/s", "cluster", _("Transactions per second")),
    Metric("db.size", "GiB", "cluster", _("Size of the database")),
    # -- log
    Metric("log.head_lag", "s", "cluster", _("Head of the log held back"), kind="age"),
    Metric("log.events", "1/s", "cluster", _("Events per second")),
    Metric("seal.age", "s", "cluster", _("Age of the oldest event without a seal"), kind="age"),
    Metric("subscriptions.parked", "1", "cluster", _("Parked streams")),
    Metric("views.age", "s", "cluster", _("Age of the materialized views"), kind="age"),
    # -- sockets
    Metric("sockets.open", "1", "cluster", _("Live connections")),
    Metric("sockets.lag_p99", "s", "cluster", _("From commit to socket, p99")),
    Metric("sockets.delivered", "1/s", "cluster", _("Frames per second")),
    Metric("sockets.polling", "1", "cluster", _("Processes that poll the log")),
    Metric("sockets.closes", "1", "cluster", _("Closed connections"), kind="count"),
    Metric("sockets.bad_closes", "1", "cluster", _("Connections closed by a problem"), kind="count"),
    # -- Valkey
    Metric("valkey.reachable", "1", "cluster", _("Valkey reachable"), kind="flag", low_is_bad=True),
    Metric("valkey.latency", "s", "cluster", _("Valkey round trip")),
    Metric("valkey.memory", "percent", "cluster", _("Valkey memory"), kind="share"),
    Metric("valkey.evictions", "1", "cluster", _("Keys evicted by Valkey"), kind="count"),
    # -- queue, worker, beat
    Metric("queue.depth", "1", "cluster", _("Queued tasks")),
    Metric("queue.age", "s", "cluster", _("Age of the oldest queued task"), kind="age"),
    Metric("worker.age", "s", "cluster", _("Since a worker finished a task"), kind="age"),
    Metric("beat.age", "s", "cluster", _("Since a scheduled task was sent"), kind="age"),
    Metric("tasks.done", "1", "cluster", _("Tasks"), kind="count"),
    Metric("tasks.failed", "1", "cluster", _("Failed tasks"), kind="count"),
    # -- requests
    Metric("requests.count", "1", "cluster", _("Requests"), kind="count"),
    Metric("errors.count", "1", "cluster", _("Failed requests"), kind="count"),
    Metric("errors.rate", "percent", "cluster", _("Failed requests of the last five minutes"), kind="share"),
    Metric("requests.p50", "s", "cluster", _("Response time, p50"), kind="percentile"),
    Metric("requests.p95", "s", "cluster", _("Response time, p95"), kind="percentile"),
    Metric("requests.p99", "s", "cluster", _("Response time, p99"), kind="percentile"),
    # -- product
    Metric("staff.online", "1", "cluster", _("Staff online"), "user"),
    Metric("users.active", "1", "cluster", _("Users active in the last five minutes"), "user"),
    Metric("users.active_day", "1", "cluster", _("Users active in the last 24 hours"), "user"),
    Metric("submissions.rate", "1/min", "cluster", _("Submissions per minute"), "submission"),
    Metric("conflicts.open", "1", "cluster", _("Open conflicts"), "conflict"),
    Metric("conflicts.oldest", "s", "cluster", _("Oldest open conflict"), "conflict", kind="age"),
    # -- the edge, and the watchers themselves
    Metric("tls.days_left", "days", "cluster", _("Days until the certificate expires"), low_is_bad=True),
    Metric("cache.hit", "percent", "cluster", _("Cache hits"), kind="share", low_is_bad=True),
    Metric("notify.age", "s", "cluster", _("Oldest notification that is due"), kind="age"),
    Metric("sampler.seconds", "s", "cluster", _("Duration of the probes")),
    Metric("probe.errors", "1", "cluster", _("Failed probes"), kind="count"),
)

_HOST: Final = (
    Metric("cpu.percent", "percent", "host", _("CPU, of the limit"), kind="share"),
    Metric("cpu.throttled", "percent", "host", _("CPU throttled"), kind="share"),
    Metric("memory.percent", "percent", "host", _("Memory, of the limit"), kind="share"),
    Metric("disk.free", "percent", "host", _("Free disk space"), kind="share", low_is_bad=True),
    Metric("load.per_cpu", "1", "host", _("Load per CPU of the host")),
    Metric("host.skew", "s", "host", _("Clock difference to the database")),
)

_SUBSCRIPTION: Final = (
    Metric("subscription.lag", "s", "subscription", _("Age of the oldest event left"), kind="age"),
    Metric("subscription.behind", "1", "subscription", _("Events left to handle")),
    Metric("subscription.parked", "1", "subscription", _("Parked streams")),
)

METRICS: Final[dict[str, Metric]] = {one.name: one for one in (*_CLUSTER, *_HOST, *_SUBSCRIPTION)}
POSITIONS: Final[dict[str, int]] = {
    one.name: position for group in (_CLUSTER, _HOST, _SUBSCRIPTION) for position, one in enumerate(group)
}
SIZES: Final[dict[Group, int]] = {"cluster": len(_CLUSTER), "host": len(_HOST), "subscription": len(_SUBSCRIPTION)}


def metric(name: str) -> Metric:
    """The metric of that name; raises `KeyError`."""
    return METRICS[name]


def source(group: Group, target: str = "") -> str:
    """The name of a series in the history tables: ``cluster``, ``host:web-1``, ``subscription:relay``."""
    return f"{group}:{target}" if target else group
