"""The master keys, which wrap the keys of subjects. They are in the environment only, never in the database.

`settings.PRIVACY_KEYS` maps ids to 32 bytes; the first wraps, all of them unwrap. To rotate: put a new one in front,
run `manage.py rotate_keys`, and remove the old one when `manage.py check --database default` reports nothing.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import hmac
import os
import re
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings

from events import errors

NONCE: Final = 12  # bytes, random: SP 800-38D §8.2.2 allows 2**32 messages under one key
DEVELOPMENT: Final = "development"  # id of the key of a development machine
_ID = re.compile(r"[A-Za-z0-9_.-]{1,32}")
WRONG: Final = (
    "The key {0!r} of PRIVACY_KEYS is not the one that personal data was encrypted with under this id. Put the right "
    "key back under {0!r}; a new key needs an id of its own."
)


def parse(text: str) -> dict[str, bytes]:
    """Parse ``id:base64,id:base64``. Raises `ValueError` with the reason, without quoting the key."""
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
    """The key of a development machine, so that development needs no configuration."""
    return {DEVELOPMENT: hashlib.sha256(b"formease privacy " + secret.encode()).digest()}


def current() -> str:
    """The id of the key that wraps."""
    return next(iter(settings.PRIVACY_KEYS))


def wrap(subject: str, secret: bytes) -> tuple[str, bytes]:
    """Wrap a subject's secret: returns the key's id, and nonce and ciphertext. Bound to the subject's name."""
    key_id, nonce = current(), os.urandom(NONCE)
    return key_id, nonce + _cipher(settings.PRIVACY_KEYS[key_id]).encrypt(nonce, secret, subject.encode())


def unwrap(subject: str, key_id: str, wrapped: bytes) -> bytes:
    """The secret that was wrapped. Raises `MasterKeyMissing` without the key, `MasterKeyWrong` when it does not fit."""
    key = settings.PRIVACY_KEYS.get(key_id)
    if key is None:
        raise errors.MasterKeyMissing(f"PRIVACY_KEYS lacks the key {key_id!r}, which personal data is encrypted with.")
    try:
        return _cipher(key).decrypt(wrapped[:NONCE], wrapped[NONCE:], subject.encode())
    except (InvalidTag, ValueError):  # ValueError: too short
        derived_from = " Without PRIVACY_KEYS it follows from SECRET_KEY." if key_id == DEVELOPMENT else ""
        raise errors.MasterKeyWrong(WRONG.format(key_id) + derived_from) from None


# -- keyed digests ----------------------------------------------------------------------------------------------------

TAG: Final = 4  # bytes that name the master key a digest was made with
DIGEST: Final = TAG + 32


def digest(data: bytes) -> bytes:
    """A digest that only a holder of the master key can compute.

    The key's tag, then a keyed BLAKE2b (RFC 7693). For `data` that could be guessed, such as a hash of personal data.
    """
    name = current()
    return _tag(name) + _keyed(settings.PRIVACY_KEYS[name], data)


def is_digest_of(stored: bytes, data: bytes) -> bool | None:
    """True when `stored` is the digest of `data`; None when its master key is not configured any more."""
    made_by = next((key for name, key in settings.PRIVACY_KEYS.items() if _tag(name) == stored[:TAG]), None)
    if made_by is None:
        return None
    return hmac.compare_digest(stored[TAG:], _keyed(made_by, data))


def _keyed(key: bytes, data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=DIGEST - TAG, key=_digest_key(key)).digest()


@functools.lru_cache(maxsize=16)
def _tag(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()[:TAG]


@functools.lru_cache(maxsize=16)
def _digest_key(key: bytes) -> bytes:
    """A separate key, so that digests reveal nothing about AES-GCM output under the master key."""
    return hmac.digest(key, b"formease digest", "sha256")


@functools.lru_cache(maxsize=16)
def _cipher(key: bytes) -> AESGCM:
    return AESGCM(key)
