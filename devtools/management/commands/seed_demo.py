"""`manage.py seed_demo`: generated users, forms, submissions and settings, and a staff login for each role."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, ArgumentTypeError
from collections import Counter
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError
from tqdm import tqdm

from devtools.samples import load, logins
from devtools.samples.generate import World
from events import errors

FORMS_PER_USER = 2.25


class Command(BaseCommand):
    help = "Fill the database with realistic sample data and one staff login per role. Running it again adds nothing."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--users", type=count, default=400, metavar="N")
        parser.add_argument("--forms", type=count, metavar="N", help=f"default: {FORMS_PER_USER} per user")
        parser.add_argument("--submissions", type=count, default=12_000, metavar="N")
        parser.add_argument("--seed", type=count, default=0, metavar="S", help="seed of the random choices; default: 0")

    def handle(self, **options: Any) -> None:
        if not settings.DEBUG:
            raise CommandError("sample data and its logins are for development: refused with DEBUG=0")
        users, forms = options["users"], options["forms"]
        forms = round(users * FORMS_PER_USER) if forms is None else forms
        started = time.monotonic()
        try:
            made = self.fill(users, forms, options["submissions"], options["seed"])
        except (errors.EventsError, DatabaseError) as error:
            raise CommandError(f"sample data: {error}") from error
        self.report(made, time.monotonic() - started)

    def fill(self, users: int, forms: int, submissions: int, seed: int) -> Counter[str]:
        staff = logins.ensure(logins.password(settings.DATA_DIR))
        world = World(users, forms, submissions, until=load.until(seed), seed=seed)
        made = Counter({"event": load.settings(staff)})
        for kind, size in world.sizes.items():
            # disable=None: a bar on a terminal, nothing in a log
            with tqdm(total=size, desc=f"{kind}s", unit="", disable=None, file=sys.stderr) as bar:
                made += load.records(world, kind, staff, bar.update)
        return made

    def report(self, made: Counter[str], seconds: float) -> None:
        if not made["event"]:
            self.stdout.write("sample data: nothing to add")
            return
        parts = ", ".join(f"{made[kind]:,} {kind}s" for kind in ("user", "form", "submission"))
        self.stdout.write(f"sample data: {parts} in {made['event']:,} events, {seconds:.1f} s")


def count(text: str) -> int:
    if not text.isdecimal():
        raise ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)
