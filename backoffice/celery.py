"""The Celery application; the headers of a task carry the context of the person or program that requested it."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from typing import Any

from billiard.process import current_process
from celery import Celery, signals
from django.conf import settings
from django.db import connections

from events import context
from events.privacy import key_witness

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backoffice.settings")

app = Celery("backoffice")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

_open: dict[str, Any] = {}
STOP_TIMER = "end of the worker"


@signals.setup_logging.connect
def keep_logging(loglevel: int | None = None, **_: Any) -> None:
    """Leaves the log as the settings configured it: Celery would add handlers with a format of its own."""
    if loglevel is not None:
        logging.getLogger("celery").setLevel(loglevel)


@signals.worker_init.connect
def check_keys(**_: Any) -> None:
    """Ends a worker with a wrong master key at once, with the reason."""
    try:
        key_witness.refuse_wrong()
    finally:
        database: Any = connections["default"]
        database.close()
        database.close_pool()  # before the fork, which would not copy the threads of the pool


@signals.worker_shutting_down.connect
def limit_shutdown(how: str = "", **_: Any) -> None:
    """After SIGTERM a worker finishes its tasks; after WORKER_STOP_SECONDS it puts the rest back into the queue.

    SIGQUIT makes it do that: it ends its pool processes, and the tasks that were not acknowledged are delivered again
    at once. If a service manager killed it instead, they would be delivered after the visibility timeout.

    Another SIGTERM starts no second timer, because after another SIGQUIT a worker ends without returning its tasks.
    """
    if how == "Warm" and STOP_TIMER not in {thread.name for thread in threading.enumerate()}:
        timer = threading.Timer(settings.WORKER_STOP_SECONDS, os.kill, (os.getpid(), signal.SIGQUIT))
        timer.name, timer.daemon = STOP_TIMER, True
        timer.start()


@signals.before_task_publish.connect
def carry_context(headers: dict[str, Any], **_: Any) -> None:
    """Adds the current context and the time of sending, which Celery does not record, to the task's headers."""
    headers.update(context.current().headers())
    headers["sent_at"] = time.time()


@signals.task_prerun.connect
def end_at_once(**_: Any) -> None:
    """From now on SIGTERM ends a process of the pool as SIGKILL does.

    Celery raises `SystemExit` in the task. Code that cleans up could replace that by an error of its own, and the task
    would count as failed, instead of being delivered again. Celery sets its handler after all signals of the start.
    """
    if current_process().name != "MainProcess":
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@signals.task_prerun.connect
def enter_context(task_id: str, task: Any, **_: Any) -> None:
    """Runs the task in the context of its headers; without one, the actor is ``task:<name>``."""
    carried = context.from_headers({"formease_context": getattr(task.request, "formease_context", "") or ""})
    acting = context.acting(carried or context.Context(actor=f"task:{task.name}"))
    acting.__enter__()
    _open[task_id] = acting


@signals.task_postrun.connect
def leave_context(task_id: str, **_: Any) -> None:
    acting = _open.pop(task_id, None)
    if acting is not None:
        acting.__exit__(None, None, None)
