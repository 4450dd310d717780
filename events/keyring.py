"""The master keys, which wrap the keys of subjects. From the environment only: the database never sees one.

`settings.PRIVACY_KEYS` maps ids to 32 bytes; the first wraps, all of them unwrap. To rotate: put a new one in front,
run `manage.py rotate_keys`, and take the old one out when `manage.py check --database default` is silent.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import os
import re
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings

from events import errors

NONCE: Final = 12  # bytes, random: SP 800-38D §8.2.2 allows 2**32 messages under one key
_ID = re.compile(r"[A-Za-z0-9_.-]{1,32}")


def parse(text: str) -> dict[str, bytes]:
    """``id:base64,id:base64`` as keys; raises `ValueError` saying what is wrong, without the key."""
    keys: dict[str, bytes] = {}
    for number, part in enumerate(filter(None, (part.strip() for part in text.split(","))), start=1):
        name, _, encoded = part.partition(":")
        try:
            key = base64.b64decode(encoded, altchars=b"-_" if set("-_") & set(encoded) else None, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not _ID.fullmatch(name) or len(key) != 32:
            raise ValueError(f"key {number} is not <id>:<32 bytes in base64>")
        if name in keys:
            raise ValueError(f"two keys are called {name!r}")
        keys[name] = key
    return keys


def derived(secret: str) -> dict[str, bytes]:
    """The key of a development machine, so that nothing has to be configured there."""
    return {"development": hashlib.sha256(b"formease privacy " + secret.encode()).digest()}


def current() -> str:
    """The id of the key that wraps."""
    return next(iter(settings.PRIVACY_KEYS))


def wrap(subject: str, secret: bytes) -> tuple[str, bytes]:
    """A subject's secret under the current key: the key's id, and nonce and ciphertext. Bound to the subject's name."""
    key_id, nonce = current(), os.urandom(NONCE)
    return key_id, nonce + _cipher(settings.PRIVACY_KEYS[key_id]).encrypt(nonce, secret, subject.encode())


def unwrap(subject: str, key_id: str, wrapped: bytes) -> bytes:
    """Raises `MasterKeyMissing` when the key is not configured, or is another than the one it was wrapped with."""
    key = settings.PRIVACY_KEYS.get(key_id)
    if key is None:
        raise errors.MasterKeyMissing(f"PRIVACY_KEYS lacks the key {key_id!r}, which personal data is encrypted with.")
    try:
        return _cipher(key).decrypt(wrapped[:NONCE], wrapped[NONCE:], subject.encode())
    except InvalidTag:
        message = f"The key {key_id!r} of PRIVACY_KEYS does not open what was encrypted under that name."
        raise errors.MasterKeyMissing(message) from None


@functools.lru_cache(maxsize=16)
def _cipher(key: bytes) -> AESGCM:
    return AESGCM(key)
