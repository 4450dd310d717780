"""`manage.py invalidate_cache PATTERN`: have every process load matching values again."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from events import context, errors
from metrics import queries
from metrics.caching import tags


class Command(BaseCommand):
    help = (
        "Refuse cached values by name in every process: after data was changed by hand, for example. Names consist of "
        "query, arguments and role (form-stats:2026-01-01:2026-01-31:admin); * stands for any text. Works without "
        "Valkey."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("pattern", metavar="PATTERN", help="for example form-stats:*, user-forms:<id>:* or *")
        parser.add_argument("--reason", help="recorded with the invalidation")
        parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")

    def handle(self, *args: Any, **options: Any) -> None:
        pattern = options["pattern"]
        if not any(_may_match(pattern, name) for name in queries.registered()):
            known = ", ".join(queries.registered())
            raise CommandError(f"{pattern!r} matches no query; their names begin with {known}.")
        try:
            with context.acting(reason=options["reason"]):
                position = tags.invalidate(pattern)
        except (ValueError, errors.EventsError) as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps({"pattern": pattern, "position": position}))
        else:
            self.stdout.write(f"Values that match {pattern} are loaded again from position {position:,} on.")


def _may_match(pattern: str, name: str) -> bool:
    """Whether a pattern can match a value of this query: they agree up to the pattern's first `*`."""
    fixed = pattern.partition("*")[0]
    whole = f"{name}:"
    return whole.startswith(fixed) if "*" in pattern and len(fixed) < len(whole) else fixed.startswith(name)
