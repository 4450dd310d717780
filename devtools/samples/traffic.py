"""Something to watch: a stream of submissions and two editors, until told to stop.

One loop, a few sources; each does one thing and says when it wants its next turn. What goes wrong (the database away, a
record deleted under somebody's hands) is one line and a pause, and then it goes on.
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

FORMS: Final = 60  # the newest ones get all the answers
LOOK_AGAIN: Final = 100  # submissions, then see which forms there are now
TELL_EVERY: Final = 10.0  # seconds
LONGEST_PAUSE: Final = 8.0  # seconds between two attempts when nothing works

Source = Callable[[], float]


class Stop(KeyboardInterrupt):
    """Raised by a signal handler in whatever we were waiting for. A `KeyboardInterrupt`, because psycopg then cancels
    the query that is under way; after anything else the roll-back would wait for it.
    """


def run(sources: Sequence[Source], stop: threading.Event, say: Callable[[str], None]) -> None:
    """Give each source its turns until `stop` is set."""
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
            pause = min(LONGEST_PAUSE, 0.5 * 2**failures)
            say(f"{_one_line(error)}; again in {pause:g} s")
            connection.close()
        heapq.heappush(turns, (time.monotonic() + pause, next(order), source, failures))


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"


class Submissions:
    """People who fill in forms, `rate` a second on average: for a while few, then many at once."""

    def __init__(self, rate: float, rng: Random, say: Callable[[str], None]) -> None:
        self.rate, self.rng, self.say = rate, rng, say
        self.sent = self._told = 0
        self._forms: list[Any] = []
        self._tell_at = time.monotonic() + TELL_EVERY
        self._turns_at, self._pace = 0.0, 1.0

    def __call__(self) -> float:
        if self.sent % LOOK_AGAIN == 0 or not self._forms:
            newest = Form.objects.filter(deleted_at=None, archived=False, user__deleted_at=None).order_by(
                "-created_at", "-pk"
            )
            self._forms = list(newest.only("id", "fields", "title")[:FORMS])
        if not self._forms:
            raise errors.StreamNotFound("There is no form to fill in.")
        # The newest form is answered most.
        self.receive(self._forms[int(len(self._forms) * self.rng.random() ** 2)])
        self._tell()
        return self.rng.expovariate(self.rate * self._tempo())

    def receive(self, form: Any) -> commands.Result:
        """One submission to this form."""
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

    def _tempo(self) -> float:
        """Calm for some seconds, then a burst; on average 1."""
        now = time.monotonic()
        if now >= self._turns_at:
            self._pace = 2.5 if self._pace < 1 else 0.5
            self._turns_at = now + (self.rng.uniform(2, 4) if self._pace > 1 else self.rng.uniform(6, 12))
        return self._pace

    def _tell(self) -> None:
        now = time.monotonic()
        if now >= self._tell_at:
            self.say(f"{self.sent - self._told} submissions in {now - self._tell_at + TELL_EVERY:.0f} s")
            self._told, self._tell_at = self.sent, now + TELL_EVERY
