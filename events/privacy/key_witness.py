"""Checks that each master key is the one first used under its id: before wrapping and at every start.

A wrong key under the right id would go unnoticed otherwise: writing about a new subject decrypts nothing, and the data
written could never be read. So each id has a *witness* in the database, a random text that its master key wrapped when
it was first used. Ids older than witnesses are checked against keys of subjects.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec
import psycopg
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError

from events import errors
from events.db import pipeline
from events.privacy import master_keys, subject_keys

SAMPLE: Final = 20  # keys of subjects that are opened for each id

Run: TypeAlias = Callable[[str], Sequence[Sequence[Any]]]

# -- before wrapping a key --------------------------------------------------------------------------------------------

WITNESS: Final = "select witness from events_master_key where key_id = %s"

WRAPPED: Final = "select subject, secret from events_subject_key where key_id = %s limit %s"

VOUCH: Final = "insert into events_master_key (key_id, witness) values (%s, %s) on conflict (key_id) do nothing"


def prove() -> None:
    """Check that the current master key is the one first used under its id. Raises `MasterKeyWrong`.

    1 it unwraps the witness  2 without a witness, it unwraps keys of subjects  3 and inserts one, unless another
    process just did. A process queries the database once, and again after its cache was cleared. With a wrong key
    nothing may be written.
    """
    key_id = master_keys.current()
    master_key = settings.PRIVACY_KEYS[key_id]
    if subject_keys.CACHE.is_proven(key_id, master_key):
        return
    if _opens_witness(key_id):  # 1
        subject_keys.CACHE.prove(key_id, master_key)
        return
    for subject, secret in pipeline.query(WRAPPED, (key_id, SAMPLE)):  # 2
        master_keys.unwrap(subject, key_id, bytes(secret))
    pipeline.query(VOUCH, (key_id, master_keys.wrap(_name(key_id), os.urandom(32))[1]))  # 3
    _opens_witness(key_id)
    pipeline.once_committed(subject_keys.CACHE.prove, key_id, master_key)


def _opens_witness(key_id: str) -> bool:
    """True when the current master key opens its witness; False without a witness. Raises `MasterKeyWrong`."""
    found = pipeline.query(WITNESS, (key_id,))
    if found:
        master_keys.unwrap(_name(key_id), key_id, bytes(found[0][0]))
    return bool(found)


def _name(key_id: str) -> str:
    return f"master key {key_id}"


# -- for checks -------------------------------------------------------------------------------------------------------

# Few ids, perhaps millions of keys: a loose index scan steps from id to id.
IN_USE: Final = f"""
with recursive ids (key_id) as (
    (select key_id from events_subject_key where key_id is not null order by key_id limit 1)
    union all
    select (select k.key_id from events_subject_key k where k.key_id > i.key_id order by k.key_id limit 1)
      from ids i where i.key_id is not null)
select i.key_id, k.subject, k.secret
  from ids i cross join lateral (
       select subject, secret from events_subject_key k where k.key_id = i.key_id limit {SAMPLE}) k
"""  # noqa: S608 - a constant

WITNESSES: Final = "select key_id, witness from events_master_key"

State: TypeAlias = Literal["ok", "missing", "wrong"]


class MasterKeyStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a master key in use: ok, missing (not configured) or wrong.

    It is wrong when not all of the `tried` keys of subjects, and the witness, could be `opened`.
    """

    key_id: str
    state: State
    tried: int
    opened: int


def statuses(run: Run) -> list[MasterKeyStatus]:
    """The status of each master key that wraps keys of subjects, by id; the current one is included once used.

    `run` executes a statement and returns its rows.
    """
    wrapped: dict[str, list[tuple[str, bytes]]] = {}
    for key_id, subject, secret in run(IN_USE):
        wrapped.setdefault(key_id, []).append((subject, bytes(secret)))
    for key_id, witness in run(WITNESSES):
        if key_id in wrapped or key_id == master_keys.current():
            wrapped.setdefault(key_id, []).append((_name(key_id), bytes(witness)))
    return [_status(key_id, wrapped[key_id]) for key_id in sorted(wrapped)]


def _status(key_id: str, wrapped: Sequence[tuple[str, bytes]]) -> MasterKeyStatus:
    opened = sum(_opens(subject, key_id, secret) for subject, secret in wrapped)
    missing = key_id not in settings.PRIVACY_KEYS
    state: State = "missing" if missing else "ok" if opened == len(wrapped) else "wrong"
    return MasterKeyStatus(key_id=key_id, state=state, tried=len(wrapped), opened=opened)


def _opens(subject: str, key_id: str, wrapped: bytes) -> bool:
    try:
        master_keys.unwrap(subject, key_id, wrapped)
    except errors.MasterKeyMissing:
        return False
    return True


# -- at the start of a process ----------------------------------------------------------------------------------------


def startup_error() -> str | None:
    """The error text when the current master key is wrong, so that this process must not start; else None.

    With a wrong key nothing it writes could be read. None also without a database, which other checks report.
    """
    try:
        prove()
    except errors.MasterKeyWrong as error:
        return f"configuration: {error.message}"
    except (errors.EventsError, psycopg.Error, DatabaseError, ImproperlyConfigured):
        pass
    return None


def refuse_wrong() -> None:
    """Exit with the text of `startup_error`, if there is one."""
    if reason := startup_error():
        sys.exit(reason)
