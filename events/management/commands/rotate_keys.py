"""`manage.py rotate_keys`: wrap every subject's key with the first of PRIVACY_KEYS."""

from __future__ import annotations

from typing import Any

from django.core.management import BaseCommand, CommandError
from tqdm import tqdm

from events import errors
from events.privacy import erasure, master_keys


class Command(BaseCommand):
    help = (
        "After a new master key was put in front of PRIVACY_KEYS: wrap all keys with it, so that the old one can be "
        "taken out. Events stay as they are. May be interrupted and run again; nobody need stop working."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with tqdm(desc="rotate", unit=" keys", total=erasure.outdated(), disable=None) as bar:
                changed = erasure.rotate(report=bar.update)
        except errors.MasterKeyMissing as error:
            raise CommandError(error.message) from None
        self.stdout.write(f"{changed} keys wrapped with {master_keys.current()!r}, {erasure.outdated()} left")
