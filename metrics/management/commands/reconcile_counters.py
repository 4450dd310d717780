"""`manage.py reconcile_counters`: compare the counters with the read tables; exit code 1 on a difference."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

import msgspec
from django.core.management import BaseCommand, CommandError

from metrics.counters import reconcile

SHOWN = 20


class Command(BaseCommand):
    help = (
        "Compare the counters with the read tables, to the unit, while both change. Without --all the next slice, as "
        "the scheduled task does every five minutes. Nothing is repaired: run rebuild_projection counters."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--all", action="store_true", help="compare everything")
        parser.add_argument("--json", action="store_true", help="print the result as one line of JSON")

    def handle(self, **options: Any) -> None:
        outcome = reconcile.reconcile(None if options["all"] else reconcile.next_slice())
        if outcome is None:
            raise CommandError("Another process is comparing; try again.")
        if options["json"]:
            self.stdout.write(msgspec.json.encode(outcome).decode())
        else:
            self._print(outcome)
        if outcome.state != "clean":
            sys.exit(1)

    def _print(self, outcome: reconcile.Outcome) -> None:
        for one in outcome.differences[:SHOWN]:
            self.stdout.write(f"{one.key} {one.field}: counted {one.counted}, expected {one.expected}")
        if len(outcome.differences) > SHOWN:
            self.stdout.write(f"… {len(outcome.differences) - SHOWN} more")
        about = f"{outcome.state} at position {outcome.position:,}: {outcome.checked:,} users, forms and days"
        self.stdout.write(f"{about} in {outcome.seconds:.1f} s {outcome.note}".rstrip())
        if outcome.uncounted:
            self.stdout.write(f"{outcome.uncounted} records are not counted: their streams are parked")
