"""The default rules. A rule that nobody has edited follows the values of this release."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping
from typing import Final

import msgspec
from django.utils.translation import gettext_noop

from events import commands, context, errors, types
from metrics.monitoring.alerting import models, rules
from metrics.monitoring.alerting.rules import CreateRule

NAMESPACE: Final = uuid.UUID("5f8d2c1e-7a54-5b0e-9d53-6c2f0a1b7e44")
EACH: Final = "*"

# Id -> values. The ids are stable: silences, inhibition and other programs name them.
RULES: Final[Mapping[str, CreateRule]] = {
    # -- hosts
    "high_cpu": CreateRule(
        title=gettext_noop("High CPU load"),
        metric="cpu.percent",
        warn=80,
        critical=95,
        clear=70,
        for_seconds=60,
        critical_for_seconds=300,
    ),
    "high_memory": CreateRule(
        title=gettext_noop("Memory nearly full"),
        metric="memory.percent",
        target=EACH,
        warn=85,
        critical=95,
        clear=80,
        for_seconds=300,
    ),
    "disk_full": CreateRule(
        title=gettext_noop("Disk nearly full"),
        metric="disk.free",
        target=EACH,
        comparison="below",
        warn=15,
        critical=5,
        clear=20,
        for_seconds=300,
    ),
    "clock_skew": CreateRule(
        title=gettext_noop("Clock differs from the database"),
        metric="host.skew",
        target=EACH,
        warn=1,
        critical=5,
        for_seconds=60,
    ),
    # -- requests
    "high_error_rate": CreateRule(
        title=gettext_noop("Requests fail"),
        metric="errors.count",
        per="requests.count",
        over_seconds=300,
        warn=1,
        critical=5,
        clear=0.5,
        for_seconds=600,
        critical_for_seconds=0,
    ),
    "slow_requests": CreateRule(
        title=gettext_noop("Slow responses"), metric="requests.p95", warn=1, clear=0.8, for_seconds=300
    ),
    # -- database
    "database_connections": CreateRule(
        title=gettext_noop("Database connections nearly used up"),
        metric="db.connections",
        warn=80,
        critical=95,
        clear=70,
        for_seconds=60,
    ),
    "old_transaction": CreateRule(
        title=gettext_noop("Transaction stays open"),
        metric="db.oldest_transaction",
        warn=60,
        critical=300,
        for_seconds=0,
        keep_seconds=60,
    ),
    "blocked_sessions": CreateRule(
        title=gettext_noop("Sessions wait for a lock"), metric="db.blocked", warn=0, for_seconds=60, keep_seconds=60
    ),
    "deadlocks": CreateRule(title=gettext_noop("Deadlocks"), metric="db.deadlocks", warn=0, for_seconds=0),
    "transaction_ids": CreateRule(
        title=gettext_noop("Transaction ids nearly used up"),
        metric="db.xid_age",
        warn=1.0e9,
        critical=1.5e9,
        for_seconds=60,
    ),
    # -- log and subscriptions
    "head_held_back": CreateRule(
        title=gettext_noop("Head of the log is held back"),
        metric="log.head_lag",
        warn=10,
        for_seconds=30,
        keep_seconds=60,
    ),
    "subscription_late": CreateRule(
        title=gettext_noop("Subscription is late"),
        metric="subscription.lag",
        target=EACH,
        warn=5,
        critical=60,
        for_seconds=60,
        keep_seconds=60,
    ),
    "parked_streams": CreateRule(
        title=gettext_noop("Parked streams"),
        metric="subscription.parked",
        target=EACH,
        warn=0,
        for_seconds=0,
        keep_seconds=0,
    ),
    "seal_late": CreateRule(
        title=gettext_noop("Events are not sealed"), metric="seal.age", warn=3 * 3600, for_seconds=60, keep_seconds=60
    ),
    "views_late": CreateRule(
        title=gettext_noop("Materialized views are not refreshed"),
        metric="views.age",
        warn=600,
        for_seconds=60,
        keep_seconds=60,
    ),
    # -- sockets
    "sockets_lag": CreateRule(
        title=gettext_noop("Live updates are late"), metric="sockets.lag_p99", warn=1, for_seconds=120
    ),
    "sockets_polling": CreateRule(
        title=gettext_noop("Live updates poll the log"), metric="sockets.polling", warn=0, for_seconds=60
    ),
    "sockets_bad_closes": CreateRule(
        title=gettext_noop("Live connections break"),
        metric="sockets.bad_closes",
        per="sockets.closes",
        over_seconds=60,
        warn=20,
        for_seconds=0,
    ),
    # -- Valkey
    "valkey_unreachable": CreateRule(
        title=gettext_noop("Valkey is unreachable"),
        metric="valkey.reachable",
        comparison="below",
        warn=0.5,
        for_seconds=30,
        keep_seconds=30,
    ),
    "valkey_memory": CreateRule(
        title=gettext_noop("Valkey memory nearly full"), metric="valkey.memory", warn=80, clear=70, for_seconds=60
    ),
    "valkey_evictions": CreateRule(
        title=gettext_noop("Valkey evicts keys"), metric="valkey.evictions", warn=0, for_seconds=0
    ),
    # -- tasks
    "queue_depth": CreateRule(
        title=gettext_noop("Many queued tasks"), metric="queue.depth", warn=1000, clear=800, for_seconds=300
    ),
    "queue_age": CreateRule(
        title=gettext_noop("Queued tasks wait"),
        metric="queue.age",
        warn=60,
        critical=600,
        for_seconds=0,
        keep_seconds=60,
    ),
    "worker_age": CreateRule(
        title=gettext_noop("No worker finishes tasks"), metric="worker.age", critical=60, for_seconds=0, keep_seconds=30
    ),
    "beat_age": CreateRule(
        title=gettext_noop("Beat sends no tasks"), metric="beat.age", warn=30, for_seconds=0, keep_seconds=30
    ),
    "failed_tasks": CreateRule(
        title=gettext_noop("Tasks fail"),
        metric="tasks.failed",
        per="tasks.done",
        over_seconds=300,
        warn=1,
        for_seconds=0,
    ),
    # -- the rest
    "notifications_late": CreateRule(
        title=gettext_noop("Notifications are late"), metric="notify.age", warn=120, for_seconds=0, keep_seconds=60
    ),
    "certificate": CreateRule(
        title=gettext_noop("Certificate expires soon"),
        metric="tls.days_left",
        comparison="below",
        warn=21,
        critical=7,
        for_seconds=0,
        keep_seconds=0,
    ),
    "old_conflicts": CreateRule(
        title=gettext_noop("Conflicts wait"), metric="conflicts.oldest", warn=24 * 3600, for_seconds=0, keep_seconds=0
    ),
}


# Set once this process has written them. Tests and benchmarks with rules of their own set it before they judge.
SEEDED: Final = threading.Event()


def seed_once() -> None:
    """Calls `seed` unless this process has done so; repeats it after an error."""
    if not SEEDED.is_set():
        seed()
        SEEDED.set()


def seed() -> list[str]:
    """Writes the default rules that are missing or that follow an older release; returns their ids.

    May be repeated and run by several processes at once: equal values are one command.
    """
    known = models.by_id(models.Rule.objects.all())
    changed = []
    for key, wanted in RULES.items():
        row = known.get(key)
        if row is not None and (row.origin != "default" or row.deleted_at is not None or _same(row, wanted)):
            continue
        digest = msgspec.json.encode(wanted).decode()
        version = row.version if row is not None else 0
        command_id = types.named_id(NAMESPACE, f"{key} {version} {digest}")
        with context.acting(context.Context()):
            command = types.Command(id=command_id, key=key, data=rules.SeedRule(values=wanted))
            try:
                result = commands.dispatch(command)
            except errors.IdempotencyKeyReused:  # another release wrote it at the same time
                continue
        changed += [key] if result.status == "applied" else []
    return changed


def _same(row: models.Rule, wanted: CreateRule) -> bool:
    return all(getattr(row, name) == getattr(wanted, name) for name in wanted.__struct_fields__)
