"""Addresses of Valkey: one server, or the Sentinels that know which server is the primary. Pure: the settings read it.

    redis://user:password@host:6379/0     rediss://… (TLS)     unix:///path/of/the/socket
    sentinel://user:password@host:26379,host:26379/name/0      sentinels://… (TLS)

The user and the password are those of the server, `name` is the name of the primary in the Sentinels' configuration,
and the number of the database may be omitted. Sentinels that ask for a password get the one in the query:
`?sentinel_password=…`, and `sentinel_username`.
"""

from __future__ import annotations

import functools
import re
from typing import Any, Final
from urllib.parse import parse_qs, quote, unquote, urlsplit

import msgspec

SENTINEL_PORT: Final = 26379
SCHEMES: Final = ("redis", "rediss", "unix", "sentinel", "sentinels")
SENTINEL_OPTIONS: Final = {"sentinel_username": "username", "sentinel_password": "password"}


class Sentinels(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses of Sentinels, the name of their primary, and the passwords: its own, and theirs (`asked_with`)."""

    hosts: tuple[tuple[str, int], ...]
    name: str
    database: int
    user: str | None
    password: str | None
    tls: bool
    asked_with: dict[str, str]

    @property
    def asking(self) -> dict[str, Any]:
        """How redis-py connects to the Sentinels."""
        return {**self.asked_with, **({"ssl": True} if self.tls else {})}

    def options(self) -> dict[str, Any]:
        """How redis-py connects to the primary."""
        given: dict[str, Any] = {"db": self.database, "username": self.user, "password": self.password}
        return {name: value for name, value in given.items() if value is not None} | ({"ssl": True} if self.tls else {})


@functools.lru_cache(maxsize=8)
def sentinels(address: str) -> Sentinels | None:
    """The Sentinels of an address; None for the address of a server. Raises `ValueError` with what is wrong."""
    parts = urlsplit(address)
    if parts.scheme not in {"sentinel", "sentinels"}:
        return None
    login, _, hosts = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    found = re.fullmatch(r"/([\w.-]+)(?:/(\d{1,4}))?/?", parts.path, re.ASCII)
    if found is None:
        raise ValueError("names no primary: sentinel://host,host,host/name")
    options = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    if unknown := sorted(options.keys() - SENTINEL_OPTIONS.keys()):
        raise ValueError(f"has an unknown option: {unknown[0]}")
    return Sentinels(
        hosts=tuple(_host(host) for host in hosts.split(",")),
        name=found[1],
        database=int(found[2] or 0),
        user=unquote(user) or None,
        password=unquote(password) or None,
        tls=parts.scheme == "sentinels",
        asked_with={SENTINEL_OPTIONS[name]: value for name, value in options.items()},
    )


def _host(text: str) -> tuple[str, int]:
    found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[\w.-]+)(?::(\d{1,5}))?", text, re.ASCII)
    port = int(found[2] or SENTINEL_PORT) if found else 0
    if found is None or not 0 < port < 65_536:
        raise ValueError(f"names no Sentinel in {text!r}: sentinel://host:26379,host:26379/name")
    return found[1].strip("[]"), port


def broker(address: str) -> tuple[str, dict[str, Any]]:
    """The address in the notation of Celery, and the options of its transport."""
    known = sentinels(address)
    if known is None:
        return ("redis+socket" + address.removeprefix("unix") if address.startswith("unix") else address), {}
    login = f"{quote(known.user or '', safe='')}:{quote(known.password or '', safe='')}@" if known.password else ""
    hosts = [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in known.hosts]
    options: dict[str, Any] = {"master_name": known.name}
    if known.asking:
        options["sentinel_kwargs"] = known.asking
    return ";".join(f"sentinel://{login}{host}/{known.database}" for host in hosts), options


def broker_tls(address: str) -> dict[str, Any] | None:
    """Celery's `broker_use_ssl` for Sentinels with TLS; kombu reads that of a server from its address."""
    known = sentinels(address)
    return {"ssl_cert_reqs": "required"} if known is not None and known.tls else None


def cache(address: str) -> tuple[str, dict[str, Any]]:
    """The `LOCATION` of Django's cache, and its `OPTIONS`, for django-redis."""
    known = sentinels(address)
    if known is None:
        return address, {}
    options: dict[str, Any] = {
        "CONNECTION_FACTORY": "django_redis.pool.SentinelConnectionFactory",
        "SENTINELS": list(known.hosts),
        "SENTINEL_KWARGS": known.asking,
    }
    if known.password:
        options |= {"USERNAME": known.user, "PASSWORD": known.password}
    if known.tls:  # with rediss:// it would look for a server of that name
        options["CONNECTION_POOL_KWARGS"] = {"ssl": True}
    return f"redis://{known.name}/{known.database}", options
