"""Checks whether workers, beat and subscriptions are alive, from rows that they or the sampler stored.

For `/readyz`, where each is a named check that makes a process `degraded`, and for `doctor`, which ends with an error.
Nothing here asks Valkey or Celery: a check must answer also while they are down.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import psycopg

from backoffice import health
from events.subscriptions import checkpoints
from metrics.monitoring.findings import Finding
from metrics.monitoring.metric_types import POSITIONS, SLOT_SECONDS
from metrics.monitoring.probes import log as log_probe

Run: TypeAlias = Callable[[str], Sequence[Sequence[Any]]]

SILENT_SECONDS: Final = 60  # a process reports every five seconds, and beat sends a task as often
SAMPLE_SECONDS: Final = 30
UNSEALED_SECONDS: Final = 900  # three times the pause between two seals
STUCK_SECONDS: Final = 600  # a task that nobody took for so long

WORKERS: Final = """
select extract(epoch from clock_timestamp() - max(reported_at))::float from metrics_process where kind = 'worker'
"""
# Whichever process sends scheduled tasks, it writes the turn that it sent.
SENDERS: Final = "select extract(epoch from clock_timestamp() - max(sent_at))::float from events_schedule"
CHECKPOINTS: Final = """
select name, coalesce(leased_until >= clock_timestamp(), false), error is not null from events_checkpoint
"""
SAMPLE: Final = f"""
select extract(epoch from clock_timestamp())::float - {SLOT_SECONDS} * slot, v[{POSITIONS["queue.age"] + 1}]
  from metrics_sample
 where source = 'cluster' and slot > extract(epoch from clock_timestamp())::bigint / {SLOT_SECONDS} - 17280
 order by slot desc limit 1
"""  # noqa: S608 - constants


def worker(run: Run) -> str:
    """`ok`, `dead` (no report for a minute) or `missing` (never a report)."""
    return _by_age(run(WORKERS)[0][0])


def beat(run: Run) -> str:
    """`ok`, `dead` (no scheduled task was sent for a minute) or `missing` (never one)."""
    return _by_age(run(SENDERS)[0][0])


def _by_age(seconds: float | None) -> str:
    return "missing" if seconds is None else "dead" if seconds > SILENT_SECONDS else "ok"


def subscriptions(run: Run) -> str:
    """`ok`, `missing` (never run), `dead` (one has no runner) or `failing` (one retries after an error)."""
    found = {name: (leased, failed) for name, leased, failed in run(CHECKPOINTS)}
    states = [found.get(name) for known in checkpoints.registered() for name in known.checkpoints]
    if any(state is None for state in states):
        return "missing"
    if any(state is not None and not state[0] for state in states):
        return "dead"
    return "failing" if any(state is not None and state[1] for state in states) else "ok"


def samples(run: Run) -> str:
    """`ok`, `late` or `missing` (none of the last day)."""
    found = run(SAMPLE)
    if not found:
        return "missing"
    return "ok" if found[0][0] <= SAMPLE_SECONDS else "late"


def queue(run: Run) -> str:
    """`ok`, `stuck` (a task has waited for ten minutes) or `unknown` (the newest sample does not say)."""
    found = run(SAMPLE)
    if not found or found[0][0] > SAMPLE_SECONDS or found[0][1] is None:
        return "unknown"
    return "stuck" if found[0][1] > STUCK_SECONDS else "ok"


def seals(run: Run) -> str:
    """`ok`, or `late` when an event has waited a quarter of an hour for its seal."""
    found = run(log_probe.UNSEALED)
    return "late" if found and found[0][0] > UNSEALED_SECONDS else "ok"


CHECKS: Final[dict[str, Callable[[Run], str]]] = {
    "worker": worker,
    "beat": beat,
    "subscriptions": subscriptions,
    "samples": samples,
    "queue": queue,
    "seals": seals,
}

# The advice of `doctor` for each failing check.
REMEDIES: Final[dict[str, str]] = {
    "worker": "start `celery -A backoffice worker`; seals, figures, e-mails and erasures wait",
    "beat": "start `manage.py run_subscriptions`, which sends scheduled tasks; they do not run",
    "subscriptions": "start `manage.py run_subscriptions`, or read its log; counters and live pages fall behind",
    "samples": "start beat with a worker, run_subscriptions, or check_alerts --loop",
    "queue": "look for a task that blocks the workers, or start more of them",
    "seals": "look at the log of the worker, or run seal_events",
}


def finding(name: str) -> Callable[[], Finding]:
    """A check as a probe of `doctor`, where everything but `ok` is wrong."""

    def probe() -> Finding:
        try:
            with health.connect() as connection:
                state = CHECKS[name](lambda statement: connection.execute(statement).fetchall())
        except psycopg.Error:
            return Finding(name, "note", "unknown: the database does not answer")
        if state == "unknown":
            return Finding(name, "note", "unknown: there is no current sample")
        return Finding(name, "ok", "ok") if state == "ok" else Finding(name, "wrong", f"{state}: {REMEDIES[name]}")

    return probe
