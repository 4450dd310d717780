"""`manage.py demo_traffic` (part of `make demo`): submissions and two pretend editors, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from argparse import ArgumentParser, ArgumentTypeError
from random import Random
from types import FrameType
from typing import Any, Final

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from backoffice.models import Form, Staff, User
from devtools.samples import editors, traffic, visits

GRACE: Final = 0.6  # seconds to end by ourselves before we are interrupted
PEOPLE: Final = {"Ada": "admin", "Grace": "manager"}  # pretend editor -> the login whose name that is


class Command(BaseCommand):
    help = "Traffic to watch: submissions come in, and two pretend editors change records, at times the same one."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--rate", type=per_second, default=2.0, help="submissions a second on average; default: 2")
        parser.add_argument("--seed", type=int, help="the same choices every time")
        parser.add_argument("--no-presence", action="store_true", help="do not show the editors on the pages they edit")

    def handle(self, **options: Any) -> None:
        if not settings.DEBUG:
            raise CommandError("demo traffic changes real records: refused when DEBUG=0")
        stop = threading.Event()
        obey_signals(stop)
        with contextlib.suppress(traffic.Stop):
            self.run(stop, options["rate"], Random(options["seed"]), presence=not options["no_presence"])  # noqa: S311
        signal.setitimer(signal.ITIMER_REAL, 0)
        self.say("stopped")

    def run(self, stop: threading.Event, rate: float, rng: Random, *, presence: bool) -> None:
        if not User.objects.exists() or not Form.objects.exists():
            raise CommandError("nothing to edit yet: run manage.py seed_demo first")
        logins = Staff.objects.in_bulk(PEOPLE.values(), field_name="username")
        staff = {name: logins[login] for name, login in PEOPLE.items() if login in logins}
        actors = {name: f"staff:{staff[name].pk}" if name in staff else "command:demo_traffic" for name in PEOPLE}
        url = f"ws://127.0.0.1:{settings.PORT}/ws/admin/"
        seen: contextlib.AbstractContextManager[visits.Visits] = (
            visits.LiveVisits(url, staff, self.say) if presence else contextlib.nullcontext(visits.Visits())
        )
        with seen as visit:
            pair = editors.pair(actors, rng, self.say, visit)
            submissions = traffic.Submissions(rate, rng, self.say)
            self.say(f"{' and '.join(PEOPLE)} are editing, about {rate:g} submissions a second come in")
            traffic.run([submissions, *(editor.step for editor in pair)], stop, self.say)

    def say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()


def obey_signals(stop: threading.Event) -> None:
    """SIGTERM and Ctrl-C end the loop at its next turn. Should that be stuck (the database does not answer), it is
    interrupted soon after, and if not even that helps, left: we are gone within a second.
    """
    interrupted = threading.Event()

    def ask(_signum: int, _frame: FrameType | None) -> None:
        stop.set()
        signal.setitimer(signal.ITIMER_REAL, GRACE)

    def interrupt(_signum: int, _frame: FrameType | None) -> None:
        if interrupted.is_set():
            os._exit(0)  # the database rolls back what we leave
        interrupted.set()
        signal.setitimer(signal.ITIMER_REAL, GRACE / 2)
        raise traffic.Stop

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
    signal.signal(signal.SIGALRM, interrupt)


def per_second(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= 1000:
        raise ArgumentTypeError(f"{text!r} is not a number of submissions a second (more than 0, at most 1000)")
    return rate
