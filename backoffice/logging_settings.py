"""The configuration of Python's logging."""

from __future__ import annotations

from typing import Any


def configured(level: str, log_format: str) -> dict[str, Any]:
    """The dictionary for `logging.config`: one handler writes records of at least `level` as "text" or "json"."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "text": {"()": "backoffice.log_format.TextFormatter"},
            "json": {"()": "backoffice.log_format.JsonFormatter"},
        },
        "filters": {
            "frequent": {"()": "backoffice.log_filters.WithoutFrequentTasks"},
            "context": {"()": "backoffice.log_format.AddContext"},
        },
        "handlers": {
            "console": {"class": "logging.StreamHandler", "formatter": log_format, "filters": ["frequent", "context"]}
        },
        "root": {"handlers": ["console"], "level": level},
        "loggers": {
            "django": {"level": "INFO"},
            "django.request": {"level": "ERROR"},
            "django.security.DisallowedHost": {"level": "CRITICAL"},  # anybody can send one; the answer is 400
            "daphne": {"level": "INFO"},
            "httpx": {"level": "WARNING"},
        },
    }
