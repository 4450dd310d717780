"""`manage.py revoke_api_key KEY`: revokes a key; its live sockets are closed within a second."""

from __future__ import annotations

import json
from typing import Any

from django.core.management import BaseCommand, CommandError
from django.core.management.base import CommandParser

from backoffice import models
from backoffice.sections.staff import keys


class Command(BaseCommand):
    help = "Revoke an API key. Its sockets are closed; revoking it again changes nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("key", help="fe_<key>, as in the list of keys, or a whole token")
        parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")

    def handle(self, *args: Any, key: str, **options: Any) -> None:
        prefix = key.removeprefix("fe_").partition(".")[0]
        found = models.ApiKey.objects.filter(prefix=prefix).first()
        if found is None:
            raise CommandError(f"No API key is called fe_{prefix}.")
        revoked = keys.revoke(found)
        if options["json"]:
            self.stdout.write(json.dumps({"key": prefix, "revoked": revoked}))
        else:
            self.stdout.write(f"{found}: {'revoked' if revoked else 'was revoked before'}")
