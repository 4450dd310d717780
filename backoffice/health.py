"""The health probes of an orchestrator: `/livez` (the process is alive) and `/readyz` (it may receive requests).

A process is not ready without the database, without its migrations, and while it stops. Everything else (Valkey, beat,
workers, subscriptions, seals, the queue) makes it `degraded`, which is still ready: no other process would be better.
The answers contain states, never addresses or errors, because anybody may read them.

`/metrics` is answered here too where the request needs no session: scrapers address a process as orchestrators do.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import psycopg
import psycopg_pool
import redis
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.migrations.loader import MigrationLoader
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from events import valkey as valkey_clients
from events.db import primary, session
from events.subscriptions import parked
from realtime import local_hub
from realtime import views as realtime_views

DATABASE_SECONDS = 2  # also the shortest connection timeout that libpq observes exactly
# The connection parameters that say where the database is and how to sign in.
CONNECTION: tuple[str, ...] = (
    *("host", "port", "user", "password", "dbname", "service", "target_session_attrs"),
    *("sslmode", "sslrootcert", "sslcert", "sslkey"),
    "client_encoding",  # without it, a database in SQL_ASCII would return bytes for text
    *session.TCP,
)
APPLIED = "SELECT app, name FROM django_migrations"
# PostgreSQL answers a new connection, but has none left (for this role).
NO_CONNECTION_LEFT: Final = re.compile("too many (?:clients|connections)|remaining connection slots")
# For each registered check, so that all of them together answer before an orchestrator stops waiting.
LIMITS: Final = "SET LOCAL lock_timeout = '100ms'; SET LOCAL statement_timeout = '400ms'"
UNREADABLE = f"SELECT 1 FROM events_parked WHERE {parked.IS_UNREADABLE} LIMIT 1"  # noqa: S608 - a constant

log = logging.getLogger(__name__)

Run = Callable[[str], Sequence[Sequence[Any]]]
Check = Callable[[Run], str]
_checks: dict[str, Check] = {}


def register(name: str, check: Check) -> None:
    """Adds a check of the database to `/readyz`.

    The check takes a function that runs a statement and returns rows; it returns `ok` or a short state.
    """
    _checks[name] = check


class ProbeMiddleware:
    """Answers the two probes, and `/metrics` to machines, before any other middleware.

    An orchestrator or a scraper uses the address of the container, which is not in ALLOWED_HOSTS, without TLS and
    without a session. A scrape has no query: any other request passes the checks of addresses.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        probe: Callable[[HttpRequest], HttpResponse] | None
        probe = {"/livez": livez, "/readyz": readyz}.get(request.path_info)
        is_scrape = request.path_info == "/metrics" and not request.META.get("QUERY_STRING")
        if is_scrape and realtime_views.is_of_a_machine(request):
            probe = realtime_views.metrics
        return probe(request) if probe else self.get_response(request)


@never_cache
@require_safe
def livez(_request: HttpRequest) -> JsonResponse:
    """Answers 200 as long as this process can respond."""
    return JsonResponse({"status": "ok"})


@never_cache
@require_safe
def readyz(_request: HttpRequest) -> JsonResponse:
    """Answers 503 without the database, with pending migrations or while this process stops; otherwise 200.

    `status` is `unavailable`, `degraded` or `ok`; it is `degraded` where a check is not `ok`. `live` does not count: a
    process that polls the log serves the same pages.
    """
    found, log_state, more = database_and_checks()
    checks = {"database": found, "log": log_state, "valkey": valkey(), "live": live(), **more}
    ready = found in {"ok", "busy"} and checks["live"] != "draining"
    whole = all(state == "ok" for name, state in checks.items() if name != "live")
    status = "unavailable" if not ready else "ok" if whole else "degraded"
    return JsonResponse({"status": status, "checks": checks}, status=200 if ready else 503)


def database() -> str:
    """Returns `ok`, `busy`, `migrations pending` or `unreachable`."""
    return database_and_checks()[0]


def database_and_checks() -> tuple[str, str, dict[str, str]]:
    """Returns the states of the database, of the log and of the registered checks.

    Database: `ok`, `busy` (PostgreSQL has no connection left), `migrations pending` or `unreachable`; log: `ok`,
    `unreadable events` or `unknown`. The registered checks are `unknown` where they cannot be made.
    """
    unknown = dict.fromkeys(_checks, "unknown")
    try:
        with _connected() as connection:
            applied = set(connection.execute(APPLIED).fetchall())
            if not wanted_migrations() <= applied:
                return "migrations pending", "unknown", unknown
            unreadable = connection.execute(UNREADABLE).fetchone()
            more = {name: _checked(check, connection) for name, check in _checks.items()}
    except psycopg.errors.UndefinedTable:
        return "migrations pending", "unknown", unknown
    except psycopg.Error as error:
        log.warning("readyz: database: %s", error)
        return "busy" if NO_CONNECTION_LEFT.search(str(error)) else "unreachable", "unknown", unknown
    return "ok", "ok" if unreadable is None else "unreadable events", more


def _checked(check: Check, connection: psycopg.Connection[Any]) -> str:
    """The state of a registered check; `unknown` where its statement fails, which says nothing about the database."""
    try:
        with connection.transaction():
            connection.execute(LIMITS)
            return check(lambda sql: connection.execute(sql).fetchall())
    except psycopg.Error as error:
        if connection.broken:
            raise
        log.warning("readyz: %s", error)
        return "unknown"


@contextlib.contextmanager
def _connected() -> Iterator[psycopg.Connection[Any]]:
    """A connection of its own, because an exhausted pool means a busy site; where there is none left, one of the pool.

    Raises the error of the first where the second cannot be had either.
    """
    try:
        opened = connect(autocommit=True)
    except psycopg.OperationalError as error:
        pool: psycopg_pool.ConnectionPool[Any] | None = connections[DEFAULT_DB_ALIAS].pool  # type: ignore[attr-defined]
        if pool is None:
            raise
        try:
            pooled = pool.getconn(timeout=DATABASE_SECONDS)
        except psycopg_pool.PoolTimeout:
            raise error from None
        try:
            yield pooled
        finally:
            pool.putconn(pooled)
    else:
        with opened:
            yield opened


def live() -> str:
    """Returns the state of this process and its hub.

    `ok`, `idle` (it has not begun to follow the log), `polling` (without relay or Valkey it reads the log), `draining`
    (it is shutting down and must receive no more clients) or `behind` (it cannot read the log).
    """
    if local_hub.is_leaving():
        return "draining"
    status = local_hub.status()
    if status is None:
        return "idle"
    if status.draining:
        return "draining"
    if not status.store:
        return "behind"
    return "ok" if status.valkey and status.relay else "polling"


def valkey() -> str:
    """Returns `ok` or `unreachable`."""
    client = valkey_clients.client("bus", retry=None)  # within the time in which an orchestrator expects the answer
    try:
        client.ping()
    except redis.RedisError as error:
        log.warning("readyz: valkey: %s", error)
        return "unreachable"
    finally:
        client.close()
    return "ok"


@functools.cache
def wanted_migrations() -> frozenset[tuple[str, str]]:
    """Returns the last migration of each app in this version of the code, read from the files once."""
    return frozenset(MigrationLoader(None).graph.leaf_nodes())


def connect(**options: Any) -> psycopg.Connection[Any]:
    """Returns a connection to the primary for a probe, with short timeouts. Raises `psycopg.Error`."""
    return primary.Connection.connect(**parameters(), **options)


def parameters(alias: str = DEFAULT_DB_ALIAS) -> dict[str, Any]:
    """Returns connection parameters without the pool and with short timeouts, for probes."""
    given = connections[alias].get_connection_params()
    return {name: given[name] for name in CONNECTION if name in given} | {
        "connect_timeout": DATABASE_SECONDS,
        "options": f"-c statement_timeout={DATABASE_SECONDS * 1000}",
        "application_name": "readyz",
    }
