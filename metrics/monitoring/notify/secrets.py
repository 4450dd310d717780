"""Secrets of channels: URL, access token, signing keys. Encrypted at rest under a key of the channel.

The key is a subject's key (`events.privacy`), wrapped by the master key, so `rotate_keys` covers it. Secrets are never
returned by the API or shown on a page; only senders read them.
"""

from __future__ import annotations

import base64
import os
import uuid
from typing import Final

import msgspec

from events import store, strict_json
from events.privacy import encryption, subject_keys

PREFIX: Final = "whsec_"
GRACE_SECONDS: Final = 24 * 3600  # the previous signing key is used too for this long


class ChannelSecret(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The secret values of a channel.

    url           of webhook, chat, ntfy topic or Matrix home server
    token         bearer token of ntfy or Matrix
    room          Matrix room
    signing       signing key of a webhook, ``whsec_…``; `previous` is used too until `previous_until` (epoch seconds)
    """

    url: str = ""
    token: str = ""
    room: str = ""
    signing: str = ""
    previous: str = ""
    previous_until: float = 0.0

    def __repr__(self) -> str:
        """Hides the values, because errors and logs quote arguments."""
        return "ChannelSecret(…)"

    def keys(self, at: float) -> list[bytes]:
        """The signing keys in use at a time, the newest first."""
        used = [self.signing, *([self.previous] if at < self.previous_until else [])]
        return [base64.b64decode(key.removeprefix(PREFIX)) for key in used if key]


class Unreadable(Exception):
    """The secret cannot be decrypted: its master key is missing or wrong. Enter URL and token again."""


def new_signing_key() -> str:
    return PREFIX + base64.b64encode(os.urandom(32)).decode()


def encrypted(channel: uuid.UUID, secret: ChannelSecret) -> bytes:
    """The secret as stored; creates the channel's key when it has none. Raises `Unreadable`."""
    cipher = _cipher(channel)
    if missing := cipher.missing:
        store.make_keys(cipher, missing)
    found = cipher.encrypt(0, 0, msgspec.json.encode(secret))
    if found is None:
        raise Unreadable
    return found


def decrypted(channel: uuid.UUID, stored: bytes | memoryview | None) -> ChannelSecret:
    """The secret of a channel, empty where none is stored. Raises `Unreadable`."""
    if stored is None:
        return ChannelSecret()
    cipher = _cipher(channel)
    if missing := cipher.missing:
        cipher.learn(store.query(subject_keys.KEYS, (missing,)), store.once_committed)
    mark = strict_json.stored(bytes(stored))[encryption.MARK]
    plain = cipher.decrypt(0, 0, mark["text"])
    if plain is None:
        raise Unreadable
    return msgspec.json.decode(plain, type=ChannelSecret)


def _cipher(channel: uuid.UUID) -> encryption.StateCipher:
    """A cipher bound to the channel as version 0 of its stream, which no snapshot has."""
    stream = f"channel-{channel}"
    return encryption.StateCipher(stream, stream)
