"""`manage.py erase_user ID --reason "request by letter, 2026-03-02"`: makes a user's data unreadable for ever."""

from __future__ import annotations

import json
import uuid
from typing import Any

from django.core.management import BaseCommand, CommandError
from django.core.management.base import CommandParser
from tqdm import tqdm

from backoffice import commands as entry_point
from backoffice import models
from backoffice.sections.privacy import erasure
from backoffice.sections.users import domain as users
from events import commands, context, errors, types
from events.privacy import erasure as keys


class Command(BaseCommand):
    help = (
        "Erase a user: delete the keys of their data, of their forms and of the answers to those, and purge readable "
        "copies. This cannot be undone. After an interruption, run the command again to finish."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", type=uuid.UUID)
        parser.add_argument("--reason", required=True, help="the reason; it stays readable, so enter no personal data")
        parser.add_argument("--dry-run", action="store_true", help="show what would be erased; erase nothing")
        parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")

    def handle(self, *args: Any, id: uuid.UUID, reason: str, **options: Any) -> None:
        user = models.User.objects.filter(pk=id).first()
        if user is None:
            raise CommandError(f"There is no user {id}.")
        affected = erasure.affected_data(user)
        if not options["dry_run"]:
            self._erase(user, reason)
        output = {"user": str(id), "erased": not options["dry_run"], **vars(affected)}
        if options["json"]:
            self.stdout.write(json.dumps(output))
            return
        listed = ", ".join(f"{number} {name}" for name, number in vars(affected).items())
        self.stdout.write(f"user {id}: {listed} {'would be erased' if options['dry_run'] else 'erased'}")

    def _erase(self, user: models.User, reason: str) -> None:
        command = types.Command(id=types.new_id(), key=str(user.pk), data=users.EraseUser(), reason=reason)
        try:
            entry_point.demand_reason(command)
            with context.acting(actor="command:erase_user"):
                commands.dispatch(command)
            with tqdm(desc="purge", unit=" rows", disable=None) as bar:
                keys.finish(report=lambda _step, rows: bar.update(rows))
        except errors.EventsError as error:
            raise CommandError(" ".join([error.message, *getattr(error, "fields", {}).values()])) from None
