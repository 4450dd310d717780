"""`manage.py demo_traffic` (part of `make demo`): submissions and two simulated editors, until SIGTERM or Ctrl-C."""

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
from devtools.demo import editors, traffic, visits

GRACE: Final = 0.6  # seconds for the loop to end before it is interrupted
PEOPLE: Final = {"Ada": "admin", "Grace": "manager"}  # simulated editor -> the login with this first name


class Command(BaseCommand):
    help = "Create demo traffic: incoming submissions and two simulated editors who sometimes edit the same record."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--rate", type=per_second, default=2.0, help="submissions a second on average; default: 2")
        parser.add_argument("--seed", type=int, help="repeat the same random choices")
        parser.add_argument("--no-presence", action="store_true", help="do not show the editors on the pages they edit")

    def handle(self, **options: Any) -> None:
        if not settings.DEBUG:
            raise CommandError("demo traffic changes real records: refused with DEBUG=0")
        stop = threading.Event()
        install_signal_handlers(stop)
        with contextlib.suppress(traffic.Stop):
            self.run(stop, options["rate"], Random(options["seed"]), presence=not options["no_presence"])  # noqa: S311
        signal.setitimer(signal.ITIMER_REAL, 0)
        self.log("stopped")

    def run(self, stop: threading.Event, rate: float, rng: Random, *, presence: bool) -> None:
        if not User.objects.exists() or not Form.objects.exists():
            raise CommandError("there is nothing to edit: run manage.py seed_demo first")
        logins = Staff.objects.in_bulk(PEOPLE.values(), field_name="username")
        staff = {name: logins[login] for name, login in PEOPLE.items() if login in logins}
        actors = {name: f"staff:{staff[name].pk}" if name in staff else "command:demo_traffic" for name in PEOPLE}
        url = f"ws://127.0.0.1:{settings.PORT}/ws/admin/"
        seen: contextlib.AbstractContextManager[visits.Visits] = (
            visits.LiveVisits(url, staff, self.log) if presence else contextlib.nullcontext(visits.Visits())
        )
        with seen as visit:
            pair = editors.pair(actors, rng, self.log, visit)
            submissions = traffic.Submissions(rate, rng, self.log)
            self.log(f"{' and '.join(PEOPLE)} are editing, about {rate:g} submissions a second come in")
            traffic.run([submissions, *(editor.step for editor in pair)], stop, self.log)

    def log(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()


def install_signal_handlers(stop: threading.Event) -> None:
    """Install handlers so that SIGTERM and Ctrl-C end the process within a second.

    The loop ends at its next turn. If it is stuck (the database does not answer), it is interrupted after GRACE, and
    if that does not help either, the process exits.
    """
    interrupted = threading.Event()

    def request_stop(_signum: int, _frame: FrameType | None) -> None:
        stop.set()
        signal.setitimer(signal.ITIMER_REAL, GRACE)

    def interrupt(_signum: int, _frame: FrameType | None) -> None:
        if interrupted.is_set():
            os._exit(0)  # the database rolls back the open transaction
        interrupted.set()
        signal.setitimer(signal.ITIMER_REAL, GRACE / 2)
        raise traffic.Stop

    signal.signal(signal.SIGTERM, request_stop)
    signal.signal(signal.SIGINT, request_stop)
    signal.signal(signal.SIGALRM, interrupt)


def per_second(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= 1000:
        raise ArgumentTypeError(f"{text!r} is not a number of submissions a second (more than 0, at most 1000)")
    return rate
