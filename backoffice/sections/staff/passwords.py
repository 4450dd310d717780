"""Hashes passwords: two at a time in a process, without a database connection, and only within the limits.

One hash keeps a core busy for a third of a second. Thirty simultaneous sign-ins would occupy the machine and, if
each held its connection meanwhile, exhaust the pool: pages of signed-in people would fail. So a request returns its
connection before it hashes, and waits in a short queue; when the queue is full, it is refused (`Busy`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from django.contrib.auth import hashers
from django.contrib.auth.password_validation import CommonPasswordValidator
from django.core.exceptions import ValidationError
from django.db import connections
from django.utils.translation import gettext as _

AT_ONCE: Final = 2
MAX_WAITING: Final = 20
SLOT_TIMEOUT: Final = 20.0  # seconds
RETRY_AFTER: Final = 5  # seconds

# Words that an attacker would try for this product; adding digits does not make them safe.
CONTEXT_WORDS: Final = frozenset({"formease", "backoffice", "administrator", "formulaire", "motdepasse"})

_running: Final = threading.BoundedSemaphore(AT_ONCE)
_admitted: Final = threading.BoundedSemaphore(AT_ONCE + MAX_WAITING)


class Busy(Exception):
    """Too many passwords are being checked at this moment."""


@contextmanager
def hashing_slot() -> Iterator[None]:
    """Waits for a free slot to hash, without a database connection unless a transaction is open. Raises `Busy`."""
    if not _admitted.acquire(blocking=False):
        raise Busy
    try:
        for connection in connections.all(initialized_only=True):
            if not connection.in_atomic_block:
                connection.close()  # back to the pool; the next query takes one again
        if not _running.acquire(timeout=SLOT_TIMEOUT):
            raise Busy
        try:
            yield
        finally:
            _running.release()
    finally:
        _admitted.release()


class Hasher(hashers.PBKDF2PasswordHasher):
    """Django's hasher, limited to the available slots. Hashes are compatible with Django's."""

    def encode(self, password: str, salt: str, iterations: int | None = None) -> str:
        with hashing_slot():
            return super().encode(password, salt, iterations)


class GuessableValidator(CommonPasswordValidator):
    """Rejects common passwords and words of this product, also with digits or signs around them (`password1234567`)."""

    def validate(self, password: str, user: Any = None) -> None:
        core = password.lower().strip("0123456789!?.,;:-_#*+@$%&/()= ")
        if core and (core in CONTEXT_WORDS or core in self.passwords):
            raise ValidationError(
                _("This is a common word with digits or signs around it: too easy to guess."),
                code="password_guessable",
            )

    def get_help_text(self) -> str:
        return _("Your password can’t be a common word with digits or signs around it.")
