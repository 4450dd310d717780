"""`manage.py rotate_keys`: rewrap every subject's key with the first of PRIVACY_KEYS."""

from __future__ import annotations

from typing import Any

from django.core.management import BaseCommand, CommandError
from tqdm import tqdm

from events import errors
from events.privacy import erasure, master_keys


class Command(BaseCommand):
    help = (
        "Run it after a new master key was put first in PRIVACY_KEYS: it rewraps all keys, so that the old one can be "
        "removed. Events stay as they are. It may be interrupted and run again, while the application is in use."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with tqdm(desc="rotate", unit=" keys", total=erasure.outdated(), disable=None) as bar:
                changed = erasure.rotate(report=bar.update)
        except errors.MasterKeyMissing as error:
            raise CommandError(error.message) from None
        self.stdout.write(f"{changed} keys wrapped with {master_keys.current()!r}, {erasure.outdated()} left")
