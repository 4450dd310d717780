"""Keyed ids and digests of personal data, under a key derived from the subject's own.

The same input gives the same id for as long as the subject's key exists: after a rotation of the master keys (the
subject's key is only rewrapped), of `SECRET_KEY`, and after a restore together with `events_subject_key`. Once the
subject is erased, nobody can test a guess against an id, even with the log, a dump and the master keys.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Final

from events import errors, store
from events.privacy import key_witness, master_keys, subject_keys

_PERSON: Final = b"pseudonyms"


class Pseudonyms:
    """Derives ids and digests from texts; a keyed BLAKE2b (RFC 7693 §2.5) is a pseudo-random function of its input."""

    __slots__ = ("_key",)

    def __init__(self, secret: bytes) -> None:
        self._key = blake2b(key=secret, digest_size=32, person=_PERSON).digest()

    def digest(self, text: str) -> bytes:
        """The keyed digest of a text, 16 bytes."""
        return blake2b(text.encode(), digest_size=16, key=self._key).digest()

    def id(self, text: str) -> uuid.UUID:
        """A UUID version 8 (RFC 9562 §5.8), never one that a client derives (version 5) or draws (4, 7)."""
        value = int.from_bytes(self.digest(text))
        return uuid.UUID(int=value & ~(0xF << 76 | 0b11 << 62) | 0x8 << 76 | 0b10 << 62)


def of(subject: str) -> Pseudonyms | None:
    """The subject's pseudonyms; None when it has no key yet. Raises `Erased` or `MasterKeyMissing`."""
    return _opened(subject, store.query(subject_keys.KEYS, ([subject],)))


def make(subject: str) -> Pseudonyms:
    """The subject's pseudonyms; creates its key where it has none.

    Raises `Erased`, `MasterKeyMissing` or `MasterKeyWrong`.
    """
    key_witness.prove()
    found = _opened(subject, store.query(subject_keys.MAKE, subject_keys.offer([subject])))
    if found is None:
        raise AssertionError("unreachable: a key was offered")
    return found


def _opened(subject: str, rows: Sequence[Sequence[Any]]) -> Pseudonyms | None:
    for _, name, key_id, wrapped in rows:
        if name == subject:
            if wrapped is None:
                raise errors.Erased
            return Pseudonyms(master_keys.unwrap(subject, key_id, bytes(wrapped))[: subject_keys.OWN])
    return None
