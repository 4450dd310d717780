"""`manage.py grant_application ROLE`: privileges of an application role that does not own its tables."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError
from psycopg import Error

from events import errors
from events.db import grants


class Command(BaseCommand):
    help = (
        "Grant a database role the privileges of the application, without any that could change a stored event. Run it "
        "as the owner of the tables after each migrate; then let the application connect as that role."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("role")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            made = grants.grant(options["role"])
        except (errors.EventsError, Error, DatabaseError) as error:
            raise CommandError(str(error)) from error
        for statement in made:
            self.stdout.write(f"{statement};")
