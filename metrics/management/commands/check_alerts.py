"""`manage.py check_alerts`: prints the state of every alert, and of every rule that is pending."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management import BaseCommand

from metrics.monitoring.alerting import report


class Command(BaseCommand):
    help = "Print the state of every alert."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print the states as JSON")

    def handle(self, **options: Any) -> None:
        found = report.states()
        if options["json"]:
            self.stdout.write(json.dumps(found, indent=2, default=str))
            return
        for each in found:
            name = " ".join(filter(None, (each["title"], each["target"])))
            self.stdout.write(f"{each['state']:<14}{each['severity']:<10}{name}")
