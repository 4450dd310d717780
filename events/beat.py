"""The scheduler of `celery beat`: it takes its turns with all other processes that send scheduled tasks."""

from __future__ import annotations

from typing import Any

from celery import beat

from events import schedule


class Scheduler(beat.Scheduler):  # type: ignore[misc] # Celery has no types
    """Celery's scheduler without a memory of its own: the turns are in the database (`events.schedule`)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._sender = schedule.Sender()
        super().__init__(*args, **kwargs)

    def setup_schedule(self) -> None:
        """Nothing to prepare: entries and turns are read at every tick."""

    def tick(self, *_args: Any, **_kwargs: Any) -> float:
        """Send what is due; returns the seconds until the next turn."""
        return schedule.tick(self._sender)
