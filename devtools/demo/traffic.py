"""The loop of the demo traffic: a stream of submissions and two editors, until `stop` is set.

Each source performs one action and returns the seconds until its next turn. An error (no database, a record deleted
during an edit) is logged in one line, and the source tries again after a pause.
"""

from __future__ import annotations

import heapq
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from itertools import count
from random import Random
from typing import Any, Final

from django.db import DatabaseError, InterfaceError, connection
from django.utils import timezone

from backoffice.models import Form
from backoffice.sections.submissions.domain import ReceiveSubmission
from devtools.samples import answers
from events import commands, context, errors, types

FORMS: Final = 60  # only this many newest forms get submissions
REFRESH_AFTER: Final = 100  # after this many submissions, read the list of forms again
REPORT_SECONDS: Final = 10.0
MAX_PAUSE: Final = 8.0  # seconds between two attempts of a failing source

Source = Callable[[], float]


class Stop(KeyboardInterrupt):
    """Raised by a signal handler to interrupt any wait.

    A `KeyboardInterrupt`, because psycopg then cancels the running query; after any other exception the rollback would
    wait for it.
    """


def run(sources: Sequence[Source], stop: threading.Event, log: Callable[[str], None]) -> None:
    """Call each source when it is due, until `stop` is set."""
    order = count()
    turns = [(time.monotonic(), next(order), source, 0) for source in sources]
    while turns:
        due, _, source, failures = heapq.heappop(turns)
        if stop.wait(max(0.0, due - time.monotonic())):
            return
        try:
            pause, failures = source(), 0
        except (errors.EventsError, DatabaseError, InterfaceError) as error:
            failures += 1
            pause = min(MAX_PAUSE, 0.5 * 2**failures)
            log(f"{_one_line(error)}; retry in {pause:g} s")
            connection.close()
        heapq.heappush(turns, (time.monotonic() + pause, next(order), source, failures))


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"


class Submissions:
    """Simulated respondents: `rate` submissions a second on average, in quiet phases and bursts."""

    def __init__(self, rate: float, rng: Random, log: Callable[[str], None]) -> None:
        self.rate, self.rng, self.log = rate, rng, log
        self.sent = self._reported = 0
        self._forms: list[Any] = []
        self._report_at = time.monotonic() + REPORT_SECONDS
        self._phase_ends, self._factor = 0.0, 1.0

    def __call__(self) -> float:
        if self.sent % REFRESH_AFTER == 0 or not self._forms:
            newest = Form.objects.filter(deleted_at=None, archived=False, user__deleted_at=None).order_by(
                "-created_at", "-pk"
            )
            self._forms = list(newest.only("id", "fields", "title")[:FORMS])
        if not self._forms:
            raise errors.StreamNotFound("There is no form to fill in.")
        # The newest form is answered most.
        self.receive(self._forms[int(len(self._forms) * self.rng.random() ** 2)])
        self._report()
        return self.rng.expovariate(self.rate * self._rate_factor())

    def receive(self, form: Any) -> commands.Result:
        """Create one submission to this form."""
        now = timezone.now()
        french = any(field.get("id") in ("nom_complet", "commentaire") for field in form.fields)
        seconds = None if self.rng.random() < 0.06 else round(min(1800, self.rng.lognormvariate(4.8, 0.6)), 1)
        data = ReceiveSubmission(
            form_id=form.pk,
            answers=answers.fill_in(form.fields, answers.respondent(self.rng, now, french=french)),
            completion_time=seconds,
        )
        command = types.Command(id=types.new_id(), key=str(uuid.uuid4()), data=data)
        with context.acting(context.Context(), actor="command:demo_traffic", actor_name="FormEase"):
            result = commands.dispatch(command)
        self.sent += 1
        return result

    def _rate_factor(self) -> float:
        """The factor of the current phase: 0.5 for some seconds, then a burst of 2.5; 1 on average."""
        now = time.monotonic()
        if now >= self._phase_ends:
            self._factor = 2.5 if self._factor < 1 else 0.5
            self._phase_ends = now + (self.rng.uniform(2, 4) if self._factor > 1 else self.rng.uniform(6, 12))
        return self._factor

    def _report(self) -> None:
        now = time.monotonic()
        if now >= self._report_at:
            self.log(f"{self.sent - self._reported} submissions in {now - self._report_at + REPORT_SECONDS:.0f} s")
            self._reported, self._report_at = self.sent, now + REPORT_SECONDS
