"""Authenticates sockets: exact Origin, session cookie or bearer token; and which events revoke an identity.

The database is queried at the handshake and at rechecks only: for sessions on the hub's own pool (`session_reader`),
for tokens in two threads of this module. A slow query elsewhere cannot delay handshakes; delivery waits for neither.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import hashlib
import inspect
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from importlib import import_module
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib import auth
from django.contrib.auth.models import AnonymousUser
from django.db import DatabaseError, InterfaceError, connection
from django.http.cookie import parse_cookie
from django.http.request import split_domain_port, validate_host

from events import types
from realtime import log_reader, session_reader, versions

logger = logging.getLogger(__name__)

Headers: TypeAlias = Mapping[bytes, bytes]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Identity:
    """An authenticated person or program.

    principal  the argument of the topics' functions
    session    a `session_digest`, or the name of a program's key
    ends_at    when it expires by itself, where that is known
    rows       the rows it was read from: it is checked again when one of them changes or is deleted. An identity
               without rows is checked at intervals of `Limits.look_every`
    again      authenticates it again (None: no longer valid), in a thread unless it is a coroutine function
    """

    principal: Any
    person: str
    name: str
    session: str | None = None
    is_program: bool = False
    ends_at: datetime | None = None
    rows: tuple[versions.Row, ...] = ()
    again: Callable[[], Identity | None] | Callable[[], Awaitable[Identity | None]]


# All sessions of a person, but no program that uses a key of that person.
ANY_SESSION: Final = "*"


class Revocation(NamedTuple):
    """A revocation by an event, for all sockets of a person, those of one session or key, or `ANY_SESSION`.

    ``close`` ends the sockets; ``recheck`` reads their identity again and removes topics they may no longer follow.
    `session` is as in `Identity`, never the session key itself.
    """

    person: str
    action: Literal["close", "recheck"]
    session: str | None = None

    def concerns(self, identity: Identity) -> bool:
        if self.person != identity.person:
            return False
        if self.session == ANY_SESSION:
            return not identity.is_program
        return self.session is None or self.session == identity.session


# Filled by higher layers in ready(): a token's identity, or None when this authenticator does not know the token.
# Called in a thread; may query. The first that answers wins.
TOKEN_AUTHENTICATORS: Final[list[Callable[[str], Identity | None]]] = []

# Filled by higher layers in ready(): event type -> its revocation; the function returns None when it revokes nothing.
REVOCATIONS: Final[dict[str, Callable[[types.RecordedEvent], Revocation | None]]] = {}

THREADS: Final = 2
_threads: Final = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="realtime-auth")


Unavailable = log_reader.Unavailable


def session_digest(session_key: str) -> str:
    """A digest that identifies a session in events and logs without revealing its key."""
    return hashlib.sha256(f"realtime.session:{session_key}".encode()).hexdigest()[:32]


# -- origin ---------------------------------------------------------------------------------------------------------


def origin_allowed(headers: Headers, scheme: str) -> bool:
    """True when the header is, byte for byte, the serialised form of an allowed origin.

    Browsers send no other form, and they always send one, so a missing Origin is not allowed. `ALLOWED_ORIGINS` lists
    the allowed origins; when it is empty the page must come from the very host it connects to, and that host must be
    one of `ALLOWED_HOSTS`. (Channels compares host names only, and `ALLOWED_HOSTS = ["*"]` admits all of them.)
    """
    origin = headers.get(b"origin", b"").decode("latin-1")
    if not origin or origin == "null":
        return False
    allowed: list[str] = list(getattr(settings, "ALLOWED_ORIGINS", []) or [])
    if allowed:
        return origin in {serialised(one) for one in allowed}
    host = headers.get(b"host", b"").decode("latin-1")
    hosts = settings.ALLOWED_HOSTS or (["localhost", "127.0.0.1", "[::1]", ".localhost"] if settings.DEBUG else [])
    domain, _port = split_domain_port(host)
    return bool(domain) and validate_host(domain, hosts) and origin == serialised(f"{scheme}://{host}")


def page_scheme(headers: Headers, socket_scheme: str) -> str:
    """``https`` or ``http`` as the browser sees it, honouring `SECURE_PROXY_SSL_HEADER`."""
    proxy: tuple[str, str] | None = settings.SECURE_PROXY_SSL_HEADER
    if proxy is not None:
        name, secure = proxy
        sent = headers.get(name.removeprefix("HTTP_").replace("_", "-").lower().encode())
        if sent is not None:
            return "https" if sent.decode("latin-1").split(",")[0].strip() == secure else "http"
    return "https" if socket_scheme in {"wss", "https"} else "http"


@functools.lru_cache(maxsize=1024)
def serialised(origin: str) -> str | None:
    """A configured origin as a browser sends it (RFC 6454, 6.1); None when the text is no origin.

    Lower case, the host in ASCII, no default port, no path.
    """
    try:
        parts = urlsplit(origin)
        host, port = parts.hostname or "", parts.port
        ascii_host = f"[{host}]" if ":" in host else host.encode("idna").decode("ascii")
    except ValueError:  # a UnicodeError is a ValueError
        return None
    if not host or parts.scheme not in {"http", "https"} or "@" in parts.netloc:
        return None
    default = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{ascii_host}" + (f":{port}" if port not in (None, default) else "")


# -- identity -------------------------------------------------------------------------------------------------------


def bearer_token(headers: Headers) -> str | None:
    """The token of an `Authorization: Bearer` header, possibly empty; None when there is no such header."""
    scheme, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def session_key(headers: Headers) -> str | None:
    """The session cookie's value; None when it is missing or empty."""
    jar = parse_cookie(headers.get(b"cookie", b"").decode("latin-1"))
    return jar.get(settings.SESSION_COOKIE_NAME) or None


async def identify(headers: Headers, reader: log_reader.LogReader) -> Identity | None:
    """The identity behind a handshake, or None. Raises `Unavailable` when the database cannot be reached.

    A request with a wrong bearer token has no identity, even with a valid cookie beside it.
    """
    token = bearer_token(headers)
    if token is not None:
        return await _in_thread(lambda: identity_of_token(token))
    key = session_key(headers)
    return await identify_session(key, reader) if key else None


async def identify_again(identity: Identity) -> Identity | None:
    """Read the identity again from the database; None when it is no longer valid."""
    if inspect.iscoroutinefunction(identity.again):
        found: Identity | None = await identity.again()
        return found
    return await _in_thread(cast("Callable[[], Identity | None]", identity.again))


async def identify_session(key: str, reader: log_reader.LogReader) -> Identity | None:
    """The signed-in person of a session, read by `session_reader` where that is equivalent, else by Django."""
    if not session_reader.usable():
        return await _in_thread(lambda: identity_of_session(key))
    found = await session_reader.read_session(key, reader)
    if found is None:
        return None
    again = functools.partial(identify_session, key, reader)
    return _identity_of(found.login, key, again, found.ends_at, found.rows)


def identity_of_token(token: str) -> Identity | None:
    for authenticate in TOKEN_AUTHENTICATORS:
        identity = authenticate(token)
        if identity is not None:
            return identity
    return None


def identity_of_session(key: str) -> Identity | None:
    """The signed-in person of a session, checked as in `django.contrib.auth.get_user`, but without writing to it."""
    session = import_module(settings.SESSION_ENGINE).SessionStore(key)
    try:
        path, pk = session[auth.BACKEND_SESSION_KEY], session[auth.SESSION_KEY]
    except KeyError:
        return None
    if path not in settings.AUTHENTICATION_BACKENDS:
        return None
    user: Any = auth.load_backend(path).get_user(auth.get_user_model()._meta.pk.to_python(pk))
    if user is None or isinstance(user, AnonymousUser) or not user.is_active:
        return None
    if not session_reader.hash_is_current(user, session.get(auth.HASH_SESSION_KEY, "")):
        return None
    return _identity_of(user, key, lambda: identity_of_session(key))


def _identity_of(
    user: Any, key: str, again: Any, ends_at: datetime | None = None, rows: tuple[versions.Row, ...] = ()
) -> Identity:
    return Identity(
        principal=user,
        person=str(user.pk),
        name=user.get_full_name() or user.get_username(),
        session=session_digest(key),
        ends_at=ends_at,
        rows=rows,
        again=again,
    )


async def disconnect() -> None:
    """Close the database connections of this module's threads; the next query opens them again."""
    barrier = threading.Barrier(THREADS)

    def close() -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            barrier.wait(timeout=5.0)  # so that each thread runs one call, and none runs two
        connection.close()

    loop = asyncio.get_running_loop()
    await asyncio.gather(*(loop.run_in_executor(_threads, close) for _ in range(THREADS)))


async def _in_thread(ask: Callable[[], Identity | None]) -> Identity | None:
    return await asyncio.get_running_loop().run_in_executor(_threads, _with_retry, ask)


def _with_retry(ask: Callable[[], Identity | None]) -> Identity | None:
    """Query on this thread's own connection, which stays open; retry on a new one when it was stale."""
    for last in (False, True):
        try:
            return ask()
        except (DatabaseError, InterfaceError) as error:
            connection.close()
            if last:
                raise Unavailable(str(error)) from error
    raise AssertionError("unreachable")
