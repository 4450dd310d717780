"""Requests to addresses that people enter, without reaching into the own network (server-side request forgery).

    1  the URL: https, no user name; http only into ALERT_ALLOWED_NETWORKS
    2  the name is resolved once; every address must be public, or in ALERT_ALLOWED_NETWORKS, also the IPv4 address
       inside an IPv6 address. Addresses of cloud metadata and ALERT_DENIED_NETWORKS are always refused
    3  connect to the checked address, so that a second resolution cannot lead elsewhere; TLS checks the name
    4  no redirects, no proxy from the environment, a deadline for the whole request; the body of the answer is not read

`ipaddress.is_global` alone is not enough: it is true for NAT64, 6to4 and multicast addresses.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Final, TypeAlias
from urllib.parse import SplitResult, urlsplit

import msgspec
from django.conf import settings

from metrics.monitoring.notify.queue import Answer

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolver: TypeAlias = Callable[[str, int], Sequence[str]]

MAX_URL: Final = 2_000
RESOLVE_SECONDS: Final = 5.0
CONNECT_SECONDS: Final = 5.0
TOTAL_SECONDS: Final = 15.0  # well below the lease of a delivery

# Metadata services of cloud providers, which hand out credentials. Refused whatever is allowed.
METADATA: Final[tuple[Network, ...]] = tuple(
    ipaddress.ip_network(network)
    for network in (
        "169.254.0.0/16",
        "100.100.100.200/32",
        "168.63.129.16/32",
        "192.0.0.192/32",
        "fd00:ec2::254/128",
        "fd20:ce::254/128",
        "fe80::/10",
    )
)
# Not public, although `is_global` may say so: relays and tunnels, documentation, segment routing, site-local. Tunnels
# (6to4, Teredo, ISATAP, IPv4-compatible) lead to an IPv4 address that a router somewhere picks out of them.
DENIED: Final[tuple[Network, ...]] = tuple(
    ipaddress.ip_network(network)
    for network in (
        "192.88.99.0/24",
        "2001::/32",
        "2002::/16",
        "64:ff9b:1::/48",
        "100::/64",
        "3fff::/20",
        "5f00::/16",
        "fec0::/10",
    )
)
NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
COMPATIBLE: Final = ipaddress.ip_network("::/96")
ISATAP: Final = (0x00005EFE, 0x02005EFE)


class Refused(Exception):
    """The URL or an address of its host is not allowed. The message names neither path nor credentials."""


class Unreachable(Exception):
    """No connection: nothing was sent."""


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """Status and lower-case headers of an answer. Its body is never read."""

    status: int
    headers: Mapping[str, str]


# -- 1 the URL --------------------------------------------------------------------------------------------------------


def parsed(url: str) -> SplitResult:
    """The parts of a URL that may be requested. Raises `Refused`."""
    if len(url) > MAX_URL or any(not "!" <= character <= "~" for character in url) or "\\" in url:
        raise Refused("the URL is too long, or has characters that must be encoded")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Refused("the URL cannot be read") from None
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise Refused("the URL must begin with https:// and name a host")
    if parts.scheme == "http" and not settings.ALERT_ALLOWED_NETWORKS:
        raise Refused("the URL must begin with https://")
    if parts.username is not None or parts.password is not None:
        raise Refused("the URL must not contain a user name or password")
    if port == 0:
        raise Refused("the URL has no valid port")
    return parts


def host_of(url: str) -> str:
    """Scheme and host of a URL, which people may see. Paths of chat services are secret."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}" if parts.hostname else ""


# -- 2 its addresses --------------------------------------------------------------------------------------------------


def resolve(host: str, port: int) -> list[str]:
    """All addresses of a host. Raises `Unreachable`; the thread of a resolver that hangs is abandoned."""
    found: list[str] = []
    failure: list[OSError] = []

    def ask() -> None:
        try:
            found.extend(str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            failure.append(error if isinstance(error, OSError) else OSError(str(error)))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(RESOLVE_SECONDS)
    if thread.is_alive() or failure or not found:
        raise Unreachable("the host name cannot be resolved")
    return list(dict.fromkeys(found))


def check(address: str, *, plain: bool = False) -> None:
    """Raises `Refused` for an address that must not be reached. `plain`: without TLS, for allowed networks only."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    reached = _reached(ip)
    never = (*METADATA, *_networks(settings.ALERT_DENIED_NETWORKS))
    if any(_in(one, never) or one.is_multicast for one in (ip, reached)) or _is_tunnel(ip):
        raise Refused("the host has an address that is never allowed")
    if _in(reached, _networks(settings.ALERT_ALLOWED_NETWORKS)):
        return
    if plain:
        raise Refused("without https only addresses in ALERT_ALLOWED_NETWORKS are allowed")
    if not reached.is_global or reached.is_reserved or _in(reached, DENIED):
        raise Refused("the host has an address that is not public")


def _reached(ip: Address) -> Address:
    """The address that packets arrive at: the IPv4 address in an IPv4-mapped or NAT64 one, else the address itself."""
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return ip.ipv4_mapped
        if ip in NAT64:
            return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip


def _is_tunnel(ip: Address) -> bool:
    """Whether an address is 6to4, Teredo, ISATAP or IPv4-compatible."""
    if isinstance(ip, ipaddress.IPv4Address):
        return False
    compatible = ip in COMPATIBLE and int(ip) > 1  # not :: and ::1
    return bool(ip.sixtofour or ip.teredo) or compatible or (int(ip) >> 32) & 0xFFFFFFFF in ISATAP


def _networks(names: Sequence[str]) -> list[Network]:
    return [ipaddress.ip_network(name) for name in names]


def _in(ip: Address, networks: Sequence[Network]) -> bool:
    return any(ip.version == network.version and ip in network for network in networks)


# -- 3, 4 the request -------------------------------------------------------------------------------------------------


class Deadline:
    """Ends a request that takes too long, also one whose receiver sends a byte now and then."""

    def __init__(self, seconds: float) -> None:
        self.expired = False
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._expire)
        self._timer.daemon = True

    def __enter__(self) -> Deadline:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def watch(self, raw: socket.socket) -> None:
        self._socket = raw

    def _expire(self) -> None:
        self.expired = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                # The connection below TLS: readers wake up, and the descriptor stays valid for them.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


def request(
    method: str,
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    resolver: Resolver = resolve,
    trusted: bool = False,
    seconds: float = TOTAL_SECONDS,
) -> Response:
    """Send one request to a checked address.

    `trusted` skips the checks, for URLs from the environment. Raises `Refused` and `Unreachable` when nothing was sent,
    `OSError` or `http.client.HTTPException` when the request may have arrived.
    """
    parts = urlsplit(url) if trusted else parsed(url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    with Deadline(seconds) as deadline:
        addresses = resolver(host, port)
        if not trusted:
            for address in addresses:
                check(address, plain=parts.scheme == "http")
        raw = _connected(addresses, port, deadline)
        try:
            connection = _over(raw, parts.scheme, host, port, deadline)
        except BaseException:
            raw.close()
            raise
        try:
            return _exchange(connection, method, parts, body, headers)
        finally:
            connection.close()
            if deadline.expired:  # the error that the cut connection caused does not matter
                raise TimeoutError


def _connected(addresses: Sequence[str], port: int, deadline: Deadline) -> socket.socket:
    """A connection to the first address that answers."""
    for address in addresses:
        if deadline.expired:
            break
        raw = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        raw.settimeout(CONNECT_SECONDS)
        deadline.watch(raw)
        try:
            raw.connect((address, port))
        except OSError:
            raw.close()
        else:
            return raw
    raise Unreachable("no connection")


def _over(raw: socket.socket, scheme: str, host: str, port: int, deadline: Deadline) -> http.client.HTTPConnection:
    """An HTTP connection on a connected socket, with TLS for the name; http.client neither resolves nor connects."""
    connection = http.client.HTTPConnection(host, port)
    if scheme == "http":
        connection.sock = raw
        return connection
    connection.default_port = 443  # for the header Host
    context = ssl.create_default_context()
    if settings.ALERT_CA_FILE:
        context.load_verify_locations(settings.ALERT_CA_FILE)
    secure = context.wrap_socket(raw, server_hostname=host, do_handshake_on_connect=False)
    deadline.watch(secure)
    try:
        secure.do_handshake()
    except OSError as error:
        secure.close()
        bad = isinstance(error, ssl.SSLCertVerificationError)
        raise Unreachable("the certificate is not valid" if bad else "TLS failed") from None
    connection.sock = secure
    return connection


def _exchange(
    connection: http.client.HTTPConnection, method: str, parts: SplitResult, body: bytes, headers: Mapping[str, str]
) -> Response:
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection.sock.settimeout(TOTAL_SECONDS)  # the deadline ends it earlier
    connection.request(method, path, body, {"Connection": "close", "User-Agent": "FormEase", **headers})
    with connection.getresponse() as answer:
        return Response(status=answer.status, headers={name.lower(): value for name, value in answer.getheaders()})


# -- the result of a message ------------------------------------------------------------------------------------------


def deliver(method: str, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    """Send a message; returns how it ended. Only 2xx is success; a redirect is a failure."""
    try:
        response = request(method, url, body, headers)
    except (Refused, Unreachable) as error:
        return Answer(outcome="failed", detail=str(error))
    except TimeoutError:
        return Answer(outcome="unknown", detail="no answer in time")
    except (OSError, http.client.HTTPException) as error:
        return Answer(outcome="unknown", detail=f"no answer: {type(error).__name__}")
    status = response.status
    return Answer(
        outcome="delivered" if 200 <= status < 300 else "failed",
        detail=f"HTTP {status}",
        retry_after=retry_after(response.headers),
        gone=status == http.client.GONE,
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds of ``Retry-After``; a date is compared with the receiver's own ``Date``, not with our clock."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        until, now = parsedate_to_datetime(value), parsedate_to_datetime(headers.get("date", ""))
        return max(0.0, (until - now).total_seconds())
    except (ValueError, TypeError):
        return None
