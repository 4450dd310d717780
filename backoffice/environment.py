"""Readers of environment variables, one for each kind of value.

A reader raises ValueError with a message that starts with the name of the variable: `PORT='70000' is not a whole
number from 1 to 65535`.
"""

from __future__ import annotations

import ipaddress
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar
from urllib.parse import urlsplit

import environ
import psycopg
from psycopg import conninfo

from events import valkey_urls

T = TypeVar("T")

# Variables whose values no message may show.
SECRETS: Final = {
    "DATABASE_URL",
    "DATABASE_READ_URL",
    "REDIS_URL",
    "REDIS_QUEUE_URL",
    "SECRET_KEY",
    "PRIVACY_KEYS",
    "EMAIL_URL",
    "ALERT_FALLBACK_URL",
    "ALERT_HEARTBEAT_URL",
}
SWITCHES: Final = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}
LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
SSL_MODES: Final = {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}
# Options of Django's PostgreSQL backend that libpq does not know.
BACKEND_OPTIONS: Final = {"assume_role", "isolation_level", "pool", "server_side_binding"}


def stop(message: str) -> NoReturn:
    """Ends the process with a message about the configuration."""
    sys.exit(f"configuration: {message}")


def read(name: str, cast: Callable[..., T], default: Any) -> T:
    """Returns the value of a variable; `default` if unset or empty. `cast(name, default=…)` raises ValueError."""
    try:
        return cast(name, default=default)
    except (ValueError, environ.ImproperlyConfigured) as error:
        shown = name if name in SECRETS else f"{name}={os.environ.get(name)!r}"
        stop(f"{shown} {error}")


def text(name: str, default: str) -> str:
    """Returns the value without surrounding white space."""
    value = os.environ.get(name, "").strip() or default
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("is not UTF-8") from None
    return value


def matching(pattern: str, meaning: str) -> Callable[..., str]:
    """Returns a reader of texts that match the whole pattern."""

    def cast(name: str, default: str) -> str:
        value = text(name, default)
        if not re.fullmatch(pattern, value, re.ASCII | re.IGNORECASE):
            raise ValueError(f"is not {meaning}")
        return value

    return cast


def switch(name: str, *, default: bool) -> bool:
    """Reads a boolean: 1 or 0, true or false, yes or no, on or off."""
    value = text(name, "1" if default else "0").lower()
    if value not in SWITCHES:
        raise ValueError("is neither 1 nor 0")
    return SWITCHES[value]


def whole(least: int, most: int) -> Callable[..., int]:
    """Returns a reader of whole numbers within bounds, both included."""

    def cast(name: str, default: int) -> int:
        value = text(name, str(default))
        if not re.fullmatch(r"-?[0-9]{1,18}", value) or not least <= int(value) <= most:
            raise ValueError(f"is not a whole number from {least} to {most}")
        return int(value)

    return cast


def one_of(*choices: str) -> Callable[..., str]:
    """Returns a reader of one of these words."""

    def cast(name: str, default: str) -> str:
        value = text(name, default).lower()
        if value not in choices:
            raise ValueError(f"is not one of {', '.join(choices)}")
        return value

    return cast


def log_level(name: str, default: str) -> str:
    value = text(name, default).upper()
    if value not in LOG_LEVELS:
        raise ValueError(f"is not one of {', '.join(LOG_LEVELS)}")
    return value


def words(name: str, default: list[str]) -> list[str]:
    """Reads a comma-separated list."""
    return [word for part in text(name, ",".join(default)).split(",") if (word := part.strip())]


def hosts(name: str, default: list[str]) -> list[str]:
    """Reads hosts in the format of Django's ALLOWED_HOSTS."""
    found = words(name, default)
    for host in found:
        if not re.fullmatch(r"\*|\.?[a-z0-9][a-z0-9.-]*|\[[0-9a-f:.]+\]", host, re.IGNORECASE):
            raise ValueError(f"contains {host!r}, which is not a host such as admin.example.org (no scheme, no port)")
    return found


def networks(name: str, default: list[str]) -> list[str]:
    """Reads networks in CIDR notation, or single addresses."""
    found = words(name, default)
    for network in found:
        try:
            ipaddress.ip_network(network)
        except ValueError:
            raise ValueError(f"contains {network!r}, which is not a network such as 10.0.0.0/8 or 192.0.2.7") from None
    return found


def origins(name: str, default: list[str]) -> list[str]:
    """Reads origins: scheme, host and, unless it is the default of the scheme, port."""
    found = words(name, default)
    for origin in found:
        if not re.fullmatch(r"https?://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?/?", origin, re.IGNORECASE):
            raise ValueError(f"contains {origin!r}, which is not an origin such as https://admin.example.org")
        _check_port(urlsplit(origin))
    return found


def web_address(name: str, default: str) -> str:
    """Reads an absolute http or https URL."""
    value = text(name, default)
    if value:
        parts = urlsplit(value)
        if parts.scheme not in {"https", "http"} or not parts.hostname or not value.isascii() or " " in value:
            raise ValueError("must be an address such as https://hooks.example.org/path")
        _check_port(parts)
    return value


def mail_server(name: str, default: str) -> str:
    """Reads smtp://user:password@host:587, smtp+tls://… (STARTTLS) or smtp+ssl://…"""
    value = text(name, default)
    if value:
        parts = urlsplit(value)
        if parts.scheme not in {"smtp", "smtp+tls", "smtp+ssl", "smtps"} or not parts.hostname:
            raise ValueError("must be an address such as smtp+tls://user:password@mail.example.org:587")
        _check_port(parts)
    return value


def readable_file(name: str, default: Path | None) -> Path | None:
    """Reads the path of a file that exists."""
    value = text(name, str(default or ""))
    if not value:
        return None
    path = Path(value).absolute()
    if not path.is_file() or not os.access(path, os.R_OK):
        raise ValueError("is not a file that can be read")
    return path


def folder(name: str, default: Path | None) -> Path | None:
    """Reads the path of a folder, which need not exist yet; a file of this name is an error."""
    value = text(name, str(default or ""))
    if not value:
        return None
    path = Path(value).absolute()
    try:
        nearest = next(part for part in (path, *path.parents) if part.exists())
        if not nearest.is_dir():
            raise ValueError("is not a folder" if nearest == path else f"is below {nearest}, which is not a folder")
    except OSError as error:
        raise ValueError(f"cannot be used: {error.strerror}") from None
    return path


def postgres_address(name: str, default: str) -> str:
    """Reads postgres://user:password@host:5432/name?option=value

    Several hosts, host:5432,host:5432, are tried in turn (`target_session_attrs` of libpq).
    """
    value = text(name, default)
    if not value:
        return value
    parts = urlsplit(value)
    if parts.scheme not in {"postgres", "postgresql", "psql", "pgsql"}:
        raise ValueError("must be an address such as postgres://user:password@host:5432/name")
    _check_hosts(parts)
    if not parts.path.strip("/"):
        raise ValueError("names no database: postgres://user:password@host:5432/name")
    options = environ.Env.db_url_config(value).get("OPTIONS", {})
    try:
        conninfo.make_conninfo(**{key: option for key, option in options.items() if key not in BACKEND_OPTIONS})
    except psycopg.ProgrammingError as error:
        raise ValueError(f"cannot be read: {str(error).strip()}") from None
    if options.get("sslmode", "prefer") not in SSL_MODES:
        raise ValueError(f"has an unknown sslmode: one of {', '.join(sorted(SSL_MODES))}")
    return value


def valkey_address(name: str, default: str) -> str:
    """Reads redis://:password@host:6379/0, rediss://…, unix:///path or sentinel://:password@host,host/name"""
    value = text(name, default)
    parts = urlsplit(value)
    if not value or valkey_urls.sentinels(value):
        return value
    if parts.scheme not in valkey_urls.SCHEMES:
        raise ValueError("must begin with redis://, rediss://, unix:// or sentinel://")
    if parts.scheme == "unix":
        if not parts.path.strip("/"):
            raise ValueError("names no socket: unix:///path/of/the/socket")
        return value
    _check_port(parts)
    if not parts.hostname:
        raise ValueError("names no host: redis://host:6379/0")
    if not re.fullmatch(r"/?[0-9]*", parts.path):
        raise ValueError("must end with the number of a database: redis://host:6379/0")
    if parts.query:
        import redis  # noqa: PLC0415 - slow to import, and few installations set options

        try:
            redis.ConnectionPool.from_url(value).make_connection()
        except (TypeError, ValueError, redis.RedisError) as error:
            raise ValueError(f"cannot be read: {error}") from None
    return value


def _check_hosts(parts: Any) -> None:
    """Checks the ports of one host or of several; libpq needs none or one for each."""
    hosts = parts.netloc.rpartition("@")[2].split(",")
    ports = [urlsplit(f"//{host}") for host in hosts]
    for host in ports:
        _check_port(host)
    if len({host.port is None for host in ports}) > 1:
        raise ValueError("must have a port for each host, or for none: host:5432,host:5432")
    if len(hosts) > 1 and not all(host.hostname for host in ports):
        raise ValueError("has a comma without a host: host:5432,host:5432")


def _check_port(parts: Any) -> None:
    try:
        known = parts.port is None or parts.port > 0
    except ValueError:
        known = False
    if not known:
        raise ValueError("has no valid port number (1-65535)")
