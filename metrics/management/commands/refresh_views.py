"""`manage.py refresh_views`: refresh the materialized views; exit code 1 when one of them failed."""

from __future__ import annotations

import sys
from typing import Any, Final

import msgspec
from django.core.management.base import BaseCommand, CommandParser

from metrics.materialized import refresh
from metrics.materialized.refresh import Outcome

TEXTS: Final = {
    "refreshed": "refreshed in {ms:,.0f} ms, {rows:,} rows, up to position {position:,}",
    "replaced": "replaced by its new version in {ms:,.0f} ms, {rows:,} rows, up to position {position:,}",
    "unchanged": "skipped: no event since the last refresh, at position {position:,}",
    "recent": "skipped: refreshed a moment ago; --force refreshes it again",
    "busy": "skipped: another refresh or the swap of a rebuild is running",
    "failed": "failed: {error}",
}
DIFFERS: Final = "; {differences} days differ from the counters: run reconcile_counters"


class Command(BaseCommand):
    help = (
        "Refresh the materialized views without keeping readers waiting. A view is skipped when no event was recorded "
        "since its last refresh, or when that was a moment ago. Celery beat does the same every five minutes."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--force", action="store_true", help="also when nothing changed or it is recent")
        parser.add_argument("--json", action="store_true", help="print one line of JSON per view")

    def handle(self, *args: Any, **options: Any) -> None:
        outcomes = refresh.refresh_all(force=options["force"])
        for outcome in outcomes:
            self.stdout.write(msgspec.json.encode(outcome).decode() if options["json"] else _text(outcome))
        if any(outcome.status == "failed" for outcome in outcomes):
            sys.exit(1)


def _text(outcome: Outcome) -> str:
    differs = DIFFERS if outcome.differences else ""
    return f"{outcome.name}: {(TEXTS[outcome.status] + differs).format(**msgspec.structs.asdict(outcome))}"
