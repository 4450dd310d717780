"""Samples the cluster once, judges the rules and prints the alerts; with `--loop` in every slot until it is stopped.

For installations without Celery beat, and for cron. Several may run: a slot is sampled once.
"""

from __future__ import annotations

import json
import signal
import threading
from argparse import ArgumentParser
from typing import Any

from django.core.management import BaseCommand
from django.db import connection

from metrics.monitoring import fallback, process_reports, sampling
from metrics.monitoring.alerting import report

TURN = 1.0  # seconds into a slot


class Command(BaseCommand):
    help = "Sample the metrics of this moment and judge the rules; another process may have done it already."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--loop", action="store_true", help="continue in every slot of five seconds")
        parser.add_argument("--json", action="store_true", help="print each sample and the alerts as a line of JSON")

    def handle(self, **options: Any) -> None:
        if not options["loop"]:
            self.report(sampling.take(), as_json=options["json"])
            return
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        process_reports.start("sampler")
        while not stop.is_set():
            pause = 5.0
            try:
                self.report(sampling.take(), as_json=options["json"])
                pause = fallback.seconds_until(TURN)
            except sampling.AWAY as error:
                sampling.note_failure(error)
            finally:
                connection.close()
            stop.wait(pause)

    def report(self, sample: sampling.Sample | None, *, as_json: bool) -> None:
        if sample is None:
            self.stdout.write("null" if as_json else "Another process has sampled this slot.")
            return
        values = sampling.worst(sample.values)
        if as_json:
            found = {"slot": sample.slot, "values": values, "failed": sample.failed, "alerts": report.states()}
            self.stdout.write(json.dumps(found, default=str))
            return
        known = sum(value is not None for value in values.values())
        self.stdout.write(f"Slot {sample.slot}: {known} of {len(values)} metrics.")
        for name, reason in sorted(sample.failed.items()):
            self.stdout.write(f"  probe {name}: {reason}")
        for each in report.states():
            title = " ".join(filter(None, (each["title"], each["target"])))
            self.stdout.write(f"  {each['state']} ({each['severity']}): {title}")
