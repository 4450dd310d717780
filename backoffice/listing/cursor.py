"""Cursors: the place of a page in a list, encrypted.

A cursor contains values of the row that the page begins after, such as an e-mail address, and URLs stay in logs and
browser histories after an erasure. So it is encrypted (AES-GCM) under a key derived from `SECRET_KEY`; keys of
`SECRET_KEY_FALLBACKS` still decrypt. The name of the list, the order and `VERSION` are authenticated with it.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import os
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils.crypto import salted_hmac

from backoffice.listing.order import Key, Order
from backoffice.listing.refusals import InvalidCursor

VERSION: Final = 1
NONCE_BYTES: Final = 12
SALT: Final = "backoffice.listing.cursor"


class Cursor(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """The row a page begins after (or, `backward`, ends before), and the total counted for the first page.

    key       the values that the list is sorted by and the primary key, as text
    question  digest of filters and search: if it differs, the total belongs to another query
    """

    backward: bool
    key: tuple[str | None, ...]
    total: int | None = None
    is_exact: bool = False
    question: bytes = b""


def encrypt(cursor: Cursor, order: Order) -> str:
    nonce = os.urandom(NONCE_BYTES)
    sealed = _cipher(settings.SECRET_KEY).encrypt(nonce, msgspec.msgpack.encode(cursor), _bound_to(order))
    return base64.urlsafe_b64encode(nonce + sealed).rstrip(b"=").decode()


def decrypt(text: str, order: Order) -> Cursor:
    """Returns the cursor in `text`. Raises `InvalidCursor` unless it is a cursor of this list and order."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        for cipher in _ciphers():
            try:
                plain = cipher.decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], _bound_to(order))
            except InvalidTag:
                continue
            return msgspec.msgpack.decode(plain, type=Cursor)
    except (binascii.Error, ValueError, msgspec.DecodeError):
        pass
    raise InvalidCursor("The cursor was altered, or belongs to another list or order.", "cursor")


def as_text(key: Key) -> tuple[str | None, ...]:
    return tuple(
        None if value is None else value.isoformat() if isinstance(value, datetime) else str(value) for value in key
    )


def parsed(key: tuple[str | None, ...], order: Order) -> Key:
    """Returns a cursor's key as values of the database. Raises `InvalidCursor` if the columns have changed since."""
    *values, pk = key
    if len(values) != len(order.columns):
        raise InvalidCursor("The cursor belongs to an earlier release.", "cursor")
    parsers: list[Callable[[str], Any]] = [order.sort.parse, *(str for _ in order.sort.then)]
    try:
        found: list[Any] = [
            None if value is None else parse(value) for value, parse in zip(values, parsers, strict=False)
        ]
        return (*found, order.pk_field.to_python(pk))
    except (ValueError, TypeError, ValidationError):
        raise InvalidCursor("The cursor belongs to an earlier release.", "cursor") from None


def digest(*question: Any) -> bytes:
    return hashlib.blake2b(repr(question).encode(), digest_size=6).digest()


def _bound_to(order: Order) -> bytes:
    return f"{VERSION}:{order.list}:{order.label}".encode()


def _ciphers() -> Iterator[AESGCM]:
    yield from map(_cipher, (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS))


@functools.lru_cache(maxsize=16)
def _cipher(secret: str) -> AESGCM:
    return AESGCM(salted_hmac(SALT, "", secret=secret, algorithm="sha256").digest())
