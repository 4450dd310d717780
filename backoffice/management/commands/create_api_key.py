"""`manage.py create_api_key NAME --owner USERNAME --scopes users:read,events:read`: creates access for a program."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from django.core.management import BaseCommand, CommandError
from django.core.management.base import CommandParser
from django.utils import timezone

from backoffice import access, models
from backoffice.sections.staff import keys


class Command(BaseCommand):
    help = (
        "Create an API key. It has its owner's permissions, within its scopes. The token is shown once and not stored. "
        f"Scopes: {', '.join(keys.all_scopes())}."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="what the key is for")
        parser.add_argument("--owner", required=True, metavar="USERNAME", help="the member of staff it acts for")
        parser.add_argument("--scopes", required=True, help="separated by commas")
        parser.add_argument("--days", type=int, help="days until the key expires (default: it never expires)")
        parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")

    def handle(self, *args: Any, name: str, owner: str, scopes: str, days: int | None, **options: Any) -> None:
        key, token = self._created(name, owner, scopes, days)
        if options["json"]:
            shown = {"key": key.prefix, "token": token, "scopes": key.scopes, "expires_at": key.expires_at}
            self.stdout.write(json.dumps(shown, default=str))
            return
        until = f"until {key.expires_at:%Y-%m-%d}" if key.expires_at else "until it is revoked"
        self.stdout.write(f"{key.name}: valid {until}, scopes {', '.join(key.scopes)}. Shown only now:")
        self.stdout.write(token)

    def _created(self, name: str, owner: str, scopes: str, days: int | None) -> tuple[models.ApiKey, str]:
        staff = models.Staff.objects.filter(username=owner).first()
        if access.role_of(staff) is None or staff is None:
            raise CommandError(f"No active member of staff is called {owner!r}.")
        if days is not None and not 1 <= days <= 3650:
            raise CommandError("--days must be from 1 to 3650.")
        if not name.strip() or len(name) > 100:
            raise CommandError("The name must have from 1 to 100 characters.")
        expires = timezone.now() + timedelta(days=days) if days else None
        wanted = [scope.strip() for scope in scopes.split(",") if scope.strip()]
        try:
            return keys.create(name=name.strip(), owner=staff, scopes=wanted, expires_at=expires)
        except ValueError as error:
            raise CommandError(str(error)) from None
