"""`manage.py export_person ID FILE.json`: writes all data about a user to one file."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from django.core.management import BaseCommand, CommandError
from django.core.management.base import CommandParser
from tqdm import tqdm

from backoffice import models
from backoffice.sections.privacy import export as user_export
from events import context


class Command(BaseCommand):
    help = (
        "Write all data about a user: their record, forms, the submissions to those, conflicts, all with their events. "
        "The file is not encrypted. The export is recorded as an event."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", type=uuid.UUID)
        parser.add_argument("file", type=Path)
        parser.add_argument("--reason", help="why; kept with the record that it was made")

    def handle(self, *args: Any, id: uuid.UUID, file: Path, reason: str | None, **options: Any) -> None:
        user = models.User.objects.filter(pk=id).first()
        if user is None:
            raise CommandError(f"There is no user {id}.")
        partial = file.with_name(f"{file.name}.part")
        try:
            with partial.open("wb") as target, context.acting(actor="command:export_person", reason=reason):
                partial.chmod(0o600)
                with tqdm(desc="export", unit="B", unit_scale=True, disable=None) as bar:
                    for piece in user_export.export(user, "command"):
                        bar.update(target.write(piece))
            partial.replace(file)
        except OSError as error:
            raise CommandError(f"{file}: {error.strerror}") from None
        finally:
            partial.unlink(missing_ok=True)
        self.stdout.write(f"{file}: everything held about user {id}, {file.stat().st_size:,} bytes")
