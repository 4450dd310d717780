"""The scheduled tasks: name, seconds between two turns, and options of sending (`events.schedule`).

During a deploy a worker of the previous release drops a task that it does not know; the next turn comes.
"""

from __future__ import annotations

from typing import Any, Final

SCHEDULE: Final[dict[str, dict[str, Any]]] = {
    "create partitions of the log": {"task": "events.tasks.create_partitions", "schedule": 3600},
    "forget old idempotency keys": {"task": "events.tasks.forget_commands", "schedule": 3600},
    # The database clock determines the slot when the task runs: a late task is dropped, no slot is sampled twice.
    "sample the metrics": {"task": "metrics.sample", "schedule": 5, "options": {"expires": 4}},
    "seal the log": {"task": "events.tasks.seal", "schedule": 300},
    "take and drop snapshots": {"task": "events.tasks.snapshot", "schedule": 86400},
    "finish erasures": {"task": "events.tasks.finish_erasures", "schedule": 60},
    "resume personal-data exports": {"task": "backoffice.sections.privacy.tasks.resume_exports", "schedule": 60},
    "resume rebuilds and checks of the log": {"task": "events.tasks.resume_jobs", "schedule": 60},
    "reconcile the counters": {
        "task": "metrics.counters.tasks.reconcile",
        "schedule": 300,
        "options": {"expires": 240},
    },
    "record failed sign-ins": {"task": "backoffice.tasks.tell_failed_sign_ins", "schedule": 60},
    "refresh the materialized views": {
        "task": "metrics.materialized.tasks.refresh_views",
        "schedule": 300,
        "options": {"expires": 240},  # a run that waited this long is followed by the next one
    },
    "send notifications": {
        "task": "metrics.monitoring.notify.tasks.send_notifications",
        "schedule": 5,
        "options": {"expires": 4},  # the next one does the same
    },
    "forget old deliveries": {"task": "metrics.monitoring.notify.tasks.forget_deliveries", "schedule": 86400},
}
