"""`manage.py receive_webhooks`: prints each webhook that arrives, to watch the messages of an alert."""

from __future__ import annotations

import signal
import threading
from argparse import ArgumentParser
from typing import Any

from django.core.management import BaseCommand, CommandError

from devtools import webhooks
from devtools.webhooks import Received

PORT = 9900


class Command(BaseCommand):
    help = "Receive the webhooks of a notification channel on this machine and print them, until Ctrl-C."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, default=PORT, help=f"default: {PORT}")
        parser.add_argument("--key", default="", help="the signing key of the channel (whsec_…), to check signatures")
        parser.add_argument("--refuse", type=int, default=0, help="answer 503 to the first requests of each message")

    def handle(self, **options: Any) -> None:
        self.key, self.refuse = options["key"], options["refuse"]
        try:
            receiver = webhooks.Receiver(self.print_one, key=self.key, port=options["port"])
        except OSError as error:
            raise CommandError(f"port {options['port']}: {error.strerror}") from None
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        receiver.start()
        self.stdout.write(f"receiving on {receiver.url}")
        self.stdout.flush()
        stop.wait()
        receiver.close()

    def print_one(self, received: Received) -> int:
        """Prints one line: type, alert, message, id, signature, and which repetition it is; returns the status."""
        data = received.body.get("data", {})
        status = 503 if received.earlier < self.refuse else 204
        signed = ("signed" if received.is_signed else "WRONG SIGNATURE") if self.key else "signature not checked"
        parts = (received.body.get("type"), data.get("alert"), data.get("message"), received.id, signed)
        shown = " · ".join(str(part) for part in parts if part)
        self.stdout.write(f"{shown} · attempt {received.earlier + 1} · answered {status}")
        self.stdout.flush()
        return status
