"""Answers remembered under the ids of commands, so that a repeated command gets its first answer.

An answer is a row of `events_command`, written in the transaction that carries the command out. It holds a keyed
fingerprint of the command, so that the same id is not accepted for a different command and a guess of the command's
data cannot be confirmed from the table. Positions are not stored: the log has them, by stream and version.
"""

from __future__ import annotations

import hashlib
import hmac
import uuid
from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

import msgspec

from events import encoding, errors, store, strict_json, types
from events.db import arrays
from events.privacy import master_keys
from events.types import Command

Status: TypeAlias = Literal["applied", "merged", "unchanged", "duplicate"]
Positions: TypeAlias = dict[tuple[str, int], int]  # (stream, version) -> position


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The stored answer to a command; `events` are (type, version) pairs of its stream."""

    id: uuid.UUID
    status: Status
    version: int
    events: tuple[tuple[str, int], ...] = ()
    merged: tuple[types.JsonDict, ...] = ()


class NewAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `events_command`: the answer, the command's keyed fingerprint, and the subject of its personal data."""

    stream: str
    subject: str | None
    fingerprint: str
    answer: Answer


class StoredAnswer(msgspec.Struct, frozen=True):
    """An answer as it was found under a command's id: the fingerprint, and the answer as JSON text."""

    fingerprint: bytes
    result: str


# -- fingerprints -----------------------------------------------------------------------------------------------------

PLAIN: Final = 32  # bytes of a fingerprint that an earlier release stored without a key


def fingerprint(command: Command) -> bytes:
    """SHA-256 of the parts that identify a command: everything but the sender and the reason."""
    content = (command.type, command.key, command.base_version, command.data)
    try:
        return hashlib.sha256(msgspec.json.encode(content, order="deterministic")).digest()
    except UnicodeEncodeError:
        strict_json.check(msgspec.to_builtins(content))  # raises an error that names the problem
        raise


def _matches(command: Command, stored: bytes) -> bool:
    """True when a stored fingerprint is this command's; always True when its master key is missing."""
    plain = fingerprint(command)
    if len(stored) == PLAIN:
        return hmac.compare_digest(stored, plain)
    return master_keys.is_digest_of(stored, plain) is not False


# -- remember ---------------------------------------------------------------------------------------------------------

REMEMBER = """
insert into events_command (id, stream, subject, fingerprint, result) values (%s, %s, %s, %s, %s::jsonb)
"""
REMEMBER_MANY = """
insert into events_command (id, stream, subject, fingerprint, result)
select (a->'answer'->>'id')::uuid, a->>'stream', a->>'subject', decode(a->>'fingerprint', 'hex'), a->'answer'
  from jsonb_array_elements(%s::jsonb) a
"""


def prepare(command: Command, stream: str, subject: str | None, answer: Answer) -> NewAnswer:
    """The row for a command. Raises `InvalidJson` for a command that JSON cannot represent."""
    keyed = master_keys.digest(fingerprint(command)).hex()
    return NewAnswer(stream=stream, subject=subject, fingerprint=keyed, answer=answer)


def remember(answers: Sequence[NewAnswer]) -> None:
    """Store answers under their ids, once: the primary key refuses a second run of the same command."""
    if len(answers) == 1:
        (one,) = answers
        result = encoding.encoded(one.answer)
        store.execute(REMEMBER, (one.answer.id, one.stream, one.subject, bytes.fromhex(one.fingerprint), result))
    elif answers:
        store.execute(REMEMBER_MANY, (encoding.encoded(answers),))


# -- recall -----------------------------------------------------------------------------------------------------------

FIND_MANY = "select id, fingerprint, result::text from events_command where id = any(%s)"

POSITIONS = "select version, position from events_event where stream = %s and version = any(%s)"


def find(ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, StoredAnswer]:
    """The stored answers to these commands, by id."""
    rows = store.query(FIND_MANY, (arrays.Uuids(ids),))
    return {command_id: StoredAnswer(bytes(found), result) for command_id, found, result in rows}


def recall(command: Command, stored: StoredAnswer) -> Answer:
    """The first answer to `command`. Raises `IdempotencyKeyReused` when the id belongs to a different command."""
    if not _matches(command, stored.fingerprint):
        raise errors.IdempotencyKeyReused(f"The id {command.id} was already used for a different command.")
    return msgspec.convert(strict_json.stored(stored.result), Answer)


def positions(stream: str, answer: Answer) -> Positions:
    """The positions of the events of an answer that was stored before, from the log or from archive files."""
    versions = [version for _, version in answer.events]
    if not versions:
        return {}
    found = {(stream, version): position for version, position in store.query(POSITIONS, (stream, versions))}
    if len(found) < len(versions):  # archived since
        events = store.read_stream(stream, versions[0] - 1, upto=versions[-1])
        return {(stream, event.version): event.position for event in events}
    return found


# -- fingerprints of earlier releases ---------------------------------------------------------------------------------

UNKEYED = "select id, fingerprint from events_command where octet_length(fingerprint) = 32 limit %s"

KEY = """
update events_command c set fingerprint = n.fingerprint, result = c.result - 'fingerprint' - 'merged'
  from unnest(%s::uuid[], %s::bytea[]) n(id, fingerprint)
 where c.id = n.id and octet_length(c.fingerprint) = 32
"""


def key_fingerprints(limit: int) -> int:
    """Key up to `limit` fingerprints that an earlier release stored as plain hashes; returns how many it found.

    Also drops the notes of merges in those answers. Runs in the caller's transaction. The commands are recalled as
    before.
    """
    found = store.query(UNKEYED, (limit,))
    if found:
        keyed = [master_keys.digest(bytes(plain)) for _, plain in found]
        store.execute(KEY, ([row[0] for row in found], keyed))
    return len(found)
