"""Runs every registered subscription, one thread per partition, and their companions, until SIGTERM or SIGINT."""

from __future__ import annotations

import logging
import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from events.privacy import key_witness
from events.subscriptions import companions
from events.subscriptions import runner as subscriptions

log = logging.getLogger(__name__)


class Command(BaseCommand):
    help = "Follow the event log: run the subscriptions, each with one active runner however many processes there are."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("names", nargs="*", help="only these subscriptions (default: all)")
        parser.add_argument(
            "--lease",
            type=float,
            default=subscriptions.LEASE_SECONDS,
            metavar="SECONDS",
            help="time until another runner takes over from one that died (default: %(default)g)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        known = {subscription.name: subscription for subscription in subscriptions.registered()}
        unknown = set(options["names"]) - known.keys()
        if unknown:
            raise CommandError(
                f"No subscription is called {', '.join(sorted(unknown))}. Known: {', '.join(known) or 'none'}"
            )
        key_witness.refuse_wrong()
        chosen = [known[name] for name in options["names"] or known]
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        threads = [
            threading.Thread(
                target=subscriptions.run,
                args=(subscription, stop),
                kwargs={"partition": partition, "lease_seconds": options["lease"]},
                name=checkpoint,
            )
            for subscription in chosen
            for partition, checkpoint in enumerate(subscription.checkpoints)
        ]
        if not options["names"]:
            threads += [
                threading.Thread(target=loop, args=(stop,), name=name) for name, loop in companions.loops.items()
            ]
        for thread in threads:
            thread.start()
        self.stdout.write(f"running {', '.join(s.name for s in chosen) or 'no subscriptions'}")
        stop.wait()
        for thread in threads:
            thread.join(timeout=15)
        if any(thread.is_alive() for thread in threads):
            log.error("a subscription did not stop in time; its lease will expire")
