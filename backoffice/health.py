"""The health probes of an orchestrator: `/livez` (the process is alive) and `/readyz` (it may receive requests).

Without PostgreSQL the process is not ready; without Valkey it is only slower. The answers contain states, never
addresses or errors, because they are public.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
import redis
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.migrations.loader import MigrationLoader
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from events import valkey as valkey_clients
from events.subscriptions import parked
from realtime import local_hub

DATABASE_SECONDS = 2  # also the shortest connection timeout that libpq observes exactly
# The connection parameters that say where the database is and how to sign in.
CONNECTION: tuple[str, ...] = (
    *("host", "port", "user", "password", "dbname", "service", "target_session_attrs"),
    *("sslmode", "sslrootcert", "sslcert", "sslkey"),
)
APPLIED = "SELECT app, name FROM django_migrations"
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
    """Answers the two probes before any other middleware.

    An orchestrator uses the address of the container, which is not in ALLOWED_HOSTS, without TLS and without a session.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        probe = {"/livez": livez, "/readyz": readyz}.get(request.path_info)
        return probe(request) if probe else self.get_response(request)


@never_cache
@require_safe
def livez(_request: HttpRequest) -> JsonResponse:
    """Answers 200 as long as this process can respond."""
    return JsonResponse({"status": "ok"})


@never_cache
@require_safe
def readyz(_request: HttpRequest) -> JsonResponse:
    """Answers 200 if the database responds and is migrated and the hub is not draining, otherwise 503.

    `status` is `degraded`, still with 200, if Valkey is missing, parked events cannot be read, or a registered check
    is not `ok`.
    """
    found, log_state, more = database_and_checks()
    checks = {"database": found, "log": log_state, "valkey": valkey(), "live": live(), **more}
    ready = checks["database"] == "ok" and checks["live"] != "draining"
    whole = all(checks[name] == "ok" for name in ("valkey", "log", *more))
    status = "unavailable" if not ready else "ok" if whole else "degraded"
    return JsonResponse({"status": status, "checks": checks}, status=200 if ready else 503)


def database() -> str:
    """Returns `ok`, `migrations pending` or `unreachable`."""
    return database_and_checks()[0]


def database_and_checks() -> tuple[str, str, dict[str, str]]:
    """Returns the states of the database, of the log and of the registered checks.

    Database: `ok`, `migrations pending` or `unreachable`; log: `ok`, `unreadable events` or `unknown`. The registered
    checks are `unknown` where they cannot be made. Uses its own connection: an exhausted pool means a busy site, not a
    missing database.
    """
    unknown = dict.fromkeys(_checks, "unknown")
    try:
        with psycopg.connect(**parameters(), autocommit=True) as connection:
            applied = set(connection.execute(APPLIED).fetchall())
            if not wanted_migrations() <= applied:
                return "migrations pending", "unknown", unknown
            unreadable = connection.execute(UNREADABLE).fetchone()
            more = {name: check(lambda sql: connection.execute(sql).fetchall()) for name, check in _checks.items()}
    except psycopg.errors.UndefinedTable:
        return "migrations pending", "unknown", unknown
    except psycopg.Error as error:
        log.warning("readyz: database: %s", error)
        return "unreachable", "unknown", unknown
    return "ok", "ok" if unreadable is None else "unreadable events", more


def live() -> str:
    """Returns the state of this process's hub.

    `ok`, `idle` (it has not begun to follow the log), `polling` (without relay or Valkey it reads the log), `draining`
    (it is shutting down and must receive no more clients) or `behind` (it cannot read the log).
    """
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
    client = valkey_clients.client("bus")
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


def parameters(alias: str = DEFAULT_DB_ALIAS) -> dict[str, Any]:
    """Returns connection parameters without the pool and with short timeouts, for probes."""
    given = connections[alias].get_connection_params()
    return {name: given[name] for name in CONNECTION if name in given} | {
        "connect_timeout": DATABASE_SECONDS,
        "options": f"-c statement_timeout={DATABASE_SECONDS * 1000}",
        "application_name": "readyz",
    }
