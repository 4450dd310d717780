"""Filters of log messages."""

from __future__ import annotations

import logging
from typing import Final

# Tasks that run every few seconds; Celery would log two lines for each run.
FREQUENT_TASKS: Final = frozenset({"metrics.sample"})


class WithoutFrequentTasks(logging.Filter):
    """Drops the messages that a worker received or finished a frequent task; warnings and errors stay."""

    def filter(self, record: logging.LogRecord) -> bool:
        about = record.args if isinstance(record.args, dict) else {}
        return record.levelno > logging.INFO or about.get("name") not in FREQUENT_TASKS
