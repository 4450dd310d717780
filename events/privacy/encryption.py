"""Encrypts the personal data of events under a key for each subject; dropping the key erases the data.

An event type names its personal fields and their subject (`types.event_type`). When an event is stored, these fields
and the reason become one encrypted text in its data,

    {"plan": "free", "$personal": {"of": "user-…", "fields": ["email"], "text": "<base64: nonce, ciphertext, tag>"}}

("of" is omitted when it is the event's own stream): AES-256-GCM, bound to the event's stream, id and type. Hashes and
seals cover the ciphertext, so they stay valid when the key is dropped. When an event is read, the fields are restored;
without the key each becomes the marker that its type declares for an erased value.

This module makes no queries. `Encryptor` and `Decryptor` name the subjects whose keys they lack; the caller fetches
them, all of a batch with one statement (`subject_keys.KEYS`): `store` in a thread, `realtime.log_reader` on an event
loop.
"""

from __future__ import annotations

import binascii
import os
import uuid
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec
import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from events import errors, strict_json, types
from events.privacy import master_keys, subject_keys
from events.privacy.subject_keys import BatchKeys, Key
from events.types import ERASED, Event, EventType, JsonDict

MARK: Final = "$personal"
REASON: Final = "$reason"
MAX_REASON: Final = 200


# -- encrypting events ------------------------------------------------------------------------------------------------


def check_reason(reason: str | None) -> None:
    """Raises `InvalidEvent` for a reason that is too long or that no text column accepts."""
    if reason is not None:
        if len(reason) > MAX_REASON:
            raise errors.InvalidEvent(f"A reason has at most {MAX_REASON} characters.")
        strict_json.check(reason)


class _Pending(NamedTuple):
    """An event to encrypt once its key is known."""

    entry: JsonDict
    subject: str
    open: JsonDict
    names: list[str]
    personal: bytes


class Encryptor(BatchKeys):
    """Encrypts the events of one append: `add` each, `learn` the keys of what is `missing`, then `finish`.

    Afterwards `reason` is the value for the events' column: None where each event carries its own, encrypted.
    """

    def __init__(self, reason: str | None) -> None:
        super().__init__()
        check_reason(reason)
        self.reason = reason
        self._jobs: list[_Pending] = []
        self._plain: list[JsonDict] = []
        self._alive: set[str] = set()
        self._born: set[str] = set()
        self._new: dict[str, bytes] = {}

    def add(
        self, entry: JsonDict, known: EventType, event: Event, encode: Callable[[Any], bytes], *, born: bool
    ) -> None:
        """Set the data (`d`) of an entry of the append functions, now or in `finish`. `born`: its stream is new."""
        stream = entry["s"]
        if known.within is not None:
            self._alive.add(known.within.of(stream, event))
        if known.subject is not None:
            open_, personal = _split(known, event)
            if self.reason not in (None, ERASED):
                personal[REASON] = self.reason
            if personal:
                names = list(personal)
                subject = known.subject.of(stream, event)
                self._jobs.append(_Pending(entry, subject, open_, names, encode(personal)))
                if subject not in self._born:
                    first = born and subject == stream and subject_keys.CACHE.is_first(subject)
                    (self._born if first else self._wanted).add(subject)
                return
        entry["d"] = msgspec.Raw(encode(event))
        self._plain.append(entry)

    @property
    def makes_keys(self) -> bool:
        """True when the append statement itself inserts keys of new subjects."""
        return bool(self._born)

    def finish(self) -> None:
        """Encrypt the events; create keys for the subjects of new streams. Raises `Erased`, `MasterKeyMissing`."""
        if not self._jobs:
            return
        if self._plain and self.reason:
            for entry in self._plain:
                entry["d"] = msgspec.Raw(orjson.dumps({**orjson.loads(entry["d"]), REASON: self.reason}))
        self.reason = None if self.reason != ERASED else self.reason
        nonces = os.urandom(master_keys.NONCE * len(self._jobs))
        for number, job in enumerate(self._jobs):
            cipher = self._key(job.subject).of(job.subject, job.entry["s"])
            if cipher is None:
                raise errors.Erased
            nonce = nonces[master_keys.NONCE * number : master_keys.NONCE * (number + 1)]
            text = _encrypted(cipher, nonce, job.entry, job.personal)
            mark = {"fields": job.names, "text": text}
            if job.subject != job.entry["s"]:
                mark["of"] = job.subject
            data = msgspec.json.encode({**job.open, MARK: mark})
            strict_json.check_encoded(data, partial(msgspec.to_builtins, job.open))
            job.entry["d"] = msgspec.Raw(data)

    def _key(self, subject: str) -> Key:
        if subject in self._failed:
            raise self._failed[subject]
        if subject not in self._keys:
            self._new[subject] = subject_keys.new_secret()
            self._keys[subject] = Key(self._new[subject])
        key = self._keys[subject]
        if key is None:
            raise errors.Erased
        return key

    def with_hold(self, statement: str, parameters: Sequence[Any], *, one: bool) -> tuple[str, Sequence[Any]]:
        """The append statement with `events_hold` added where personal data is involved. `one`: a single event."""
        if not self._jobs and not self._alive:
            return statement, parameters
        used = {job.subject for job in self._jobs} - self._new.keys()
        wrapped = [master_keys.wrap(subject, secret)[1] for subject, secret in self._new.items()]
        hold = (list(used), list(self._new), master_keys.current(), wrapped, list(self._alive))
        return (_WITH_HOLD_ONE if one else _WITH_HOLD).format(statement), (*parameters, *hold)


# The hold comes last, so that a wrong expected version is reported rather than an erased key.
_WITH_HOLD_ONE: Final = "{} where events_hold(%s::text[], %s::text[], %s, %s::bytea[], %s::text[]) is not null"
_WITH_HOLD: Final = """
with stored as materialized ({}), hold as materialized (
    select events_hold(%s::text[], %s::text[], %s, %s::bytea[], %s::text[]) from (select count(*) from stored) s)
select stored.* from stored, hold
"""


def _split(known: EventType, event: Event) -> tuple[JsonDict, JsonDict]:
    """An event's fields that stay in the clear, erased markers included, and those to encrypt (path -> value)."""
    open_: JsonDict = {}
    personal: JsonDict = {}
    markers, defaults = known.personal, known.defaults
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if value is msgspec.UNSET or (name in defaults and value == defaults[name]):
            continue
        if name in markers and value != markers[name]:
            personal[name] = value
        else:
            open_[name] = value
    for path in known.nested:
        _move(path, open_, personal, markers[path])
    return open_, personal


def _move(path: str, open_: JsonDict, personal: JsonDict, marker: Any) -> None:
    """Move a value inside an object (``command.data``) to the personal fields."""
    name, _, inner = path.partition(".")
    outer = open_.get(name)
    if isinstance(outer, dict) and outer.get(inner) not in (None, marker):
        personal[path] = outer[inner]
        open_[name] = {key: value for key, value in outer.items() if key != inner}


def _bound_to(stream: str, event_id: uuid.UUID, name: str) -> bytes:
    return event_id.bytes + f"{stream}\0{name}".encode()


def _encrypted(cipher: AESGCM, nonce: bytes, entry: JsonDict, personal: bytes) -> str:
    ciphertext = cipher.encrypt(nonce, personal, _bound_to(entry["s"], entry["i"], entry["t"]))
    return binascii.b2a_base64(nonce + ciphertext, newline=False).decode()


# -- decrypting events ------------------------------------------------------------------------------------------------


class Decryptor(BatchKeys):
    """Decrypts stored data: `add` each, `learn` the keys of what is `missing`, then `decrypt` each.

    `generation` is that of the statement that read the data. Without it, cached keys may belong to a subject erased
    since: only for deciders, which see the erasure in the stream and whose writes `events_hold` checks.
    """

    def add(self, stream: str, data: JsonDict) -> None:
        mark = data.get(MARK)
        if mark is not None and (subject := _subject_in(mark, stream)) is not None:
            self._wanted.add(subject)

    def decrypt(self, stream: str, event_id: uuid.UUID, name: str, data: JsonDict) -> str | None:
        """Restore the personal fields in `data`, erased ones as markers; returns the reason encrypted with them.

        Raises an error of this event alone: `MasterKeyMissing`, `MasterKeyWrong`, or `UnreadableEvent` where the text
        was not encrypted for this event (`tampered`) or holds no JSON.
        """
        mark = data.pop(MARK, None)
        if mark is None:
            in_clear: str | None = data.pop(REASON, None)
            return in_clear
        subject = _subject_in(mark, stream)
        if subject is None:
            raise _tampered(stream)
        cipher = self._cipher(subject, stream)
        if cipher is None:
            personal = _erased(name, mark["fields"], data)
        else:
            personal = _decrypted(cipher, stream, event_id, name, mark["text"])
        reason: str | None = personal.pop(REASON, None)
        for path, value in personal.items():
            outer, _, inner = path.partition(".")
            if inner:
                data[outer] = {**(data.get(outer) or {}), inner: value}
            else:
                data[outer] = value
        return reason


def _subject_in(mark: Any, stream: str) -> str | None:
    """The subject whose key encrypted this mark; None where it does not have the shape that `Encryptor` writes."""
    if not isinstance(mark, dict) or not isinstance(mark.get("text"), str) or not isinstance(mark.get("fields"), list):
        return None
    subject = mark.get("of", stream)
    is_valid = isinstance(subject, str) and all(isinstance(name, str) for name in mark["fields"])
    return subject if is_valid else None


def _decrypted(cipher: AESGCM, stream: str, event_id: uuid.UUID, name: str, text: str) -> JsonDict:
    try:
        raw = binascii.a2b_base64(text)
        nonce, ciphertext = raw[: master_keys.NONCE], raw[master_keys.NONCE :]
        plain = cipher.decrypt(nonce, ciphertext, _bound_to(stream, event_id, name))
    except (InvalidTag, ValueError):  # ValueError: not base64, or too short
        raise _tampered(stream) from None
    try:
        personal: JsonDict = strict_json.stored(plain)
    except ValueError:  # an older release encrypted text that is no valid JSON
        raise errors.UnreadableEvent("not_json", stream) from None
    return personal


def _tampered(stream: str) -> errors.UnreadableEvent:
    return errors.UnreadableEvent("tampered", stream)


def _erased(name: str, fields: Iterable[str], data: JsonDict) -> JsonDict:
    """Markers for erased fields, and for nested fields that an earlier release left in the clear."""
    try:
        known = types.event_type_of(name)
    except errors.UnknownEventType:
        return dict.fromkeys(fields, ERASED)
    left = [path for path in known.nested if _holds(data, path)]
    return {path: known.personal.get(path, ERASED) for path in (*fields, *left)}


def _holds(data: JsonDict, path: str) -> bool:
    name, _, inner = path.partition(".")
    outer = data.get(name)
    return isinstance(outer, dict) and outer.get(inner) is not None


# -- snapshots --------------------------------------------------------------------------------------------------------


class StateCipher(BatchKeys):
    """Encrypts or decrypts one snapshot: `learn` the key if it is `missing`, then `encrypt` or `decrypt`.

    A snapshot is a cache, so one that cannot be decrypted, for any reason, counts as absent; and without a key none is
    kept.
    """

    def __init__(self, subject: str, stream: str, generation: int | None = None) -> None:
        super().__init__(generation)
        self.subject, self._stream = subject, stream
        self._wanted.add(subject)

    def encrypt(self, version: int, state_version: int, state: bytes) -> bytes | None:
        """The encrypted state as JSON; None when its subject was erased or its key cannot be unwrapped."""
        cipher = self._usable()
        if cipher is None:
            return None
        nonce = os.urandom(master_keys.NONCE)
        encrypted = nonce + cipher.encrypt(nonce, state, self._bound_to(version, state_version))
        text = binascii.b2a_base64(encrypted, newline=False).decode()
        return msgspec.json.encode({MARK: {"of": self.subject, "text": text}})

    def decrypt(self, version: int, state_version: int, text: str) -> bytes | None:
        """The state; None when its subject was erased or the text is not that of this snapshot."""
        cipher = self._usable()
        if cipher is None:
            return None
        try:
            raw = binascii.a2b_base64(text)
            nonce, ciphertext = raw[: master_keys.NONCE], raw[master_keys.NONCE :]
            return cipher.decrypt(nonce, ciphertext, self._bound_to(version, state_version))
        except (InvalidTag, ValueError):
            return None

    def _usable(self) -> AESGCM | None:
        try:
            return self._cipher(self.subject, self._stream)
        except errors.MasterKeyMissing:
            return None

    def _bound_to(self, version: int, state_version: int) -> bytes:
        return f"snapshot\0{self._stream}\0{version}\0{state_version}".encode()
