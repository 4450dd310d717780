"""`manage.py share_static_files`: copies this release's static files to the folder that all releases share."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.staticfiles.storage import staticfiles_storage
from django.core.management import BaseCommand, CommandError
from django.core.management.base import CommandParser

from backoffice import static_files


class Command(BaseCommand):
    help = (
        "Copy the hashed static files of this release to STATIC_SHARED_DIR. Run it after collectstatic and before the "
        "first process of the release starts, so that processes of the release before can serve them too."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--keep-days",
            type=int,
            default=30,
            metavar="DAYS",
            help="delete files of releases that were not shared for so long (default: %(default)d)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.STATIC_SHARED_DIR is None:
            self.stdout.write("STATIC_SHARED_DIR is not set: nothing is shared")
            return
        storage: Any = staticfiles_storage
        if not getattr(storage, "hashed_files", None):
            raise CommandError("There are no hashed static files: run collectstatic with DEBUG=0 first.")
        try:
            copied, deleted = static_files.share(storage, options["keep_days"])
        except OSError as error:
            raise CommandError(f"{settings.STATIC_SHARED_DIR}: {error.strerror}") from None
        self.stdout.write(f"{copied} files copied to {settings.STATIC_SHARED_DIR}, {deleted} old ones deleted")
