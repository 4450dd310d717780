"""The scheduled sample, and the counts of tasks in workers. Beat and workers report from here (`process_reports`)."""

from __future__ import annotations

from typing import Any

from celery import shared_task, signals

from metrics.monitoring import process_reports, request_counts, sampling


# Acknowledged before it runs: a sample that a killed worker left is of no use to the next one.
@shared_task(name="metrics.sample", acks_late=False)
def sample() -> int | None:
    """Sample the present slot; returns it, or None when another process has it."""
    return sampling.tick()


@signals.task_prerun.connect
def start_reports_of_worker(task: Any = None, **_: Any) -> None:
    """Report from the first task on, in whichever process of the pool runs it. Eager tasks run in no worker."""
    if task is not None and not task.request.is_eager:
        process_reports.start("worker")


@signals.task_postrun.connect
def count_task(task: Any = None, **_: Any) -> None:
    if task is not None and not task.request.is_eager:
        request_counts.counts.task()


@signals.task_failure.connect
def count_failed_task(sender: Any = None, **_: Any) -> None:
    if sender is not None and not sender.request.is_eager:
        request_counts.counts.failed_task()


@signals.beat_init.connect
def start_reports_of_beat(**_: Any) -> None:
    process_reports.start("beat")


@signals.before_task_publish.connect
def note_message(**_: Any) -> None:
    """Note that beat is alive: it is when it sends, not while its process exists."""
    request_counts.counts.active()
