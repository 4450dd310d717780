"""Reads the login of a session cookie on the event loop, with one or two statements on the hub's pool.

It verifies the same as `django.contrib.auth.get_user`, with Django's own code: the session's signature and expiry, the
backend, whether the login is active, and the hash of its password under the current secret key or a fallback key. Only
the reading is reimplemented, and only where sessions and logins are read in Django's standard way (`usable`); elsewhere
`auth` asks Django itself.
"""

from __future__ import annotations

import functools
from datetime import datetime
from typing import Any, Final, NamedTuple

from django.conf import settings
from django.contrib import auth
from django.contrib.auth.backends import ModelBackend
from django.contrib.sessions.backends import db
from django.core.exceptions import ValidationError
from django.db import DEFAULT_DB_ALIAS, connection
from django.db.models.manager import BaseManager
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from realtime import log_reader, versions

# Sessions whose owner is cached.
MAX_OWNERS: Final = 10_000


def usable() -> bool:
    """True when sessions are in the database and logins in one plain table with a single-column primary key."""
    return _usable(settings.SESSION_ENGINE, settings.AUTH_USER_MODEL, tuple(settings.AUTHENTICATION_BACKENDS))


@functools.cache
def _usable(engine: str, _model: str, _backends: tuple[str, ...]) -> bool:
    model: Any = auth.get_user_model()
    manager = model._default_manager
    return (
        engine == "django.contrib.sessions.backends.db"
        and all(type(backend).get_user is ModelBackend.get_user for backend in auth.get_backends())
        and type(manager).get_queryset.__qualname__ == BaseManager.get_queryset.__qualname__
        and not model._meta.parents
        and not any(hasattr(field, "from_db_value") for field in model._meta.concrete_fields)
    )


class SessionLogin(NamedTuple):
    """The login of a session, when the session ends, and the versions of the two rows they were read from."""

    login: Any
    ends_at: datetime
    rows: tuple[versions.Row, versions.Row]


async def read_session(key: str, reader: log_reader.LogReader) -> SessionLogin | None:
    """The login of a session, or None. Raises `log_reader.Unavailable`."""
    store = db.SessionStore(key)
    if store.session_key is None or "\0" in key:
        return None
    found = await reader.query(functools.partial(_read, store))
    if found is None:
        return None
    path, session_hash, row, ends_at, (session_version, login_version) = found
    model: Any = auth.get_user_model()
    login = model.from_db(DEFAULT_DB_ALIAS, [field.attname for field in model._meta.concrete_fields], row)
    backend: Any = auth.load_backend(path)
    if not backend.user_can_authenticate(login) or not hash_is_current(login, session_hash):
        return None
    rows = (
        versions.Row(sessions(), key, session_version),
        versions.Row(staff(), str(login.pk), login_version),
    )
    return SessionLogin(login, ends_at, rows)


async def _read(
    store: db.SessionStore, connected: log_reader.Connection
) -> tuple[str, str, tuple[Any, ...], datetime, tuple[str, str]] | None:
    """The session's backend, its hash, the row of its login, its expiry, and the versions of both rows.

    The login that owned the session last time is read in the same statement, which halves the statements when all
    clients reconnect at once.
    """
    expected = _owners.get(store.session_key)
    kept = await (await connected.execute(_session_sql(), (expected, store.session_key, timezone.now()))).fetchone()
    claimed = _claim(store.decode(kept[0])) if kept else None
    if kept is None or claimed is None:
        return None
    (_, ends_at, session_version, found, login_version, *row), (pk, path, session_hash) = kept, claimed
    if found != pk:
        asked = await (await connected.execute(_login_sql(), (pk,))).fetchone()
        if asked is None:
            return None
        login_version, *row = asked
        _owners.put(store.session_key, pk)
    return path, session_hash, tuple(row), ends_at, (session_version, login_version)


class _SessionOwners:
    """A cache: session key -> key of its login when last read. Only a hint; the stored session decides."""

    def __init__(self) -> None:
        self._known: dict[str | None, Any] = {}

    def get(self, key: str | None) -> Any:
        return self._known.get(key)

    def put(self, key: str | None, owner: Any) -> None:
        if len(self._known) >= MAX_OWNERS:
            del self._known[next(iter(self._known))]
        self._known[key] = owner


_owners = _SessionOwners()


def _claim(session: dict[str, Any]) -> tuple[Any, str, str] | None:
    """The key of the session's login, its backend and its hash; None where they are missing or malformed."""
    try:
        pk, path = session[auth.SESSION_KEY], session[auth.BACKEND_SESSION_KEY]
        pk = auth.get_user_model()._meta.pk.to_python(pk)
    except (KeyError, ValidationError):
        return None
    return (pk, path, session.get(auth.HASH_SESSION_KEY, "")) if path in settings.AUTHENTICATION_BACKENDS else None


def hash_is_current(login: Any, session_hash: str) -> bool:
    """True when the session has the hash of the current password, under the secret key or a fallback key."""
    hashes = [login.get_session_auth_hash(), *login.get_session_auth_fallback_hash()]
    return any(constant_time_compare(session_hash, known) for known in hashes)


@functools.cache
def _session_sql() -> bytes:
    """The SQL that selects a session, its expiry and the columns of the expected login, with both rows' versions."""
    table, key, columns = _login()
    return (
        f"select s.session_data, s.expire_date, s.xmin::text, l.{key}, l.xmin::text, {columns} "  # noqa: S608
        f"from {sessions().table} s left join {table} l on l.{key} = %s where s.session_key = %s and s.expire_date > %s"
    ).encode()


@functools.cache
def _login_sql() -> bytes:
    table, key, columns = _login()
    return f"select l.xmin::text, {columns} from {table} l where l.{key} = %s".encode()  # noqa: S608


@functools.cache
def sessions() -> versions.Source:
    """The table of sessions and its key."""
    meta: Any = db.SessionStore.get_model_class()._meta
    quote = connection.ops.quote_name
    return versions.Source(quote(meta.db_table), quote(meta.pk.column), "text")


@functools.cache
def staff() -> versions.Source:
    """The table of logins and its key."""
    meta: Any = auth.get_user_model()._meta
    quote = connection.ops.quote_name
    return versions.Source(quote(meta.db_table), quote(meta.pk.column), meta.pk.rel_db_type(connection))


def _login() -> tuple[str, str, str]:
    """The login's table, its key, and every column, as in Django's own query."""
    meta: Any = auth.get_user_model()._meta
    quote = connection.ops.quote_name
    columns = ", ".join(f"l.{quote(field.column)}" for field in meta.concrete_fields)
    return quote(meta.db_table), quote(meta.pk.column), columns
