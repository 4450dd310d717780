"""`manage.py seed_rules`: writes the default alert rules that are missing or follow an older release."""

from __future__ import annotations

from typing import Any

from django.core.management import BaseCommand

from metrics.monitoring.alerting import defaults


class Command(BaseCommand):
    help = "Write the default alert rules. Rules that somebody edited or deleted stay as they are."

    def handle(self, **_options: Any) -> None:
        changed = defaults.seed()
        self.stdout.write("\n".join(changed) if changed else "All default rules are up to date.")
