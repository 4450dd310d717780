"""Two endpoints for programs: the description of the socket, and the metrics of this process."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Final

import prometheus_client
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import exposition, multiprocess

from realtime import asyncapi, auth, prometheus, topics

# A request with one of these came through a proxy, so its peer address is not the client's.
FORWARDED: Final = ("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP", "Forwarded", "Via")
# The right to follow this feed is the right to read the metrics.
FEED: Final = "system"


@require_safe
def asyncapi_json(_request: HttpRequest) -> HttpResponse:
    """The AsyncAPI description; it contains no secret and is public."""
    answer = HttpResponse(asyncapi.document(), content_type="application/json")
    answer["Cache-Control"] = "public, max-age=300"
    answer["Access-Control-Allow-Origin"] = "*"
    return answer


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """The metrics in the Prometheus format.

    Allowed for staff with `system.view`, API keys with the scope `system:read`, and machines of
    `METRICS_ALLOWED_NETWORKS` (by default this one) whose request came through no proxy. A process answers for itself;
    with `PROMETHEUS_MULTIPROC_DIR` set (and emptied at the start), for all processes that share the directory.
    """
    if not (_from_allowed_network(request) or _is_allowed(request)):
        return HttpResponse("Not allowed.\n", status=403, content_type="text/plain; charset=utf-8")
    encode, content_type = exposition.choose_encoder(request.headers.get("Accept", ""))
    return HttpResponse(encode(_registry()), content_type=content_type)


def _registry() -> prometheus_client.CollectorRegistry:
    """The figures of this process, or of all that share the directory, and those of the installation."""
    registry = prometheus_client.CollectorRegistry()
    if folder := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        _forget_dead_processes(Path(folder))
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    else:
        registry.register(prometheus.REGISTRY)
    for collector in prometheus.COLLECTORS.values():
        registry.register(collector)
    return registry


def _forget_dead_processes(folder: Path) -> None:
    """Remove the gauges of processes that ended or were killed; their counters stay part of the sums."""
    for pid in {int(path.stem.rpartition("_")[2]) for path in folder.glob("gauge_live*_*.db")}:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            multiprocess.mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]
        except PermissionError:
            continue  # it is alive, under another user


def is_of_a_machine(request: HttpRequest) -> bool:
    """True when the request needs no session: from an allowed network, or with a key.

    It is then answered under any host name and without TLS, because a scraper addresses each process by itself.
    """
    return _from_allowed_network(request) or request.headers.get("Authorization", "").lower().startswith("bearer ")


def _from_allowed_network(request: HttpRequest) -> bool:
    if any(name in request.headers for name in FORWARDED):
        return False
    try:
        address = ipaddress.ip_address(request.META.get("REMOTE_ADDR", ""))
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:  # as a dual-stack socket reports IPv4
        address = address.ipv4_mapped
    networks = getattr(settings, "METRICS_ALLOWED_NETWORKS", ("127.0.0.0/8", "::1/128"))
    return any(address in ipaddress.ip_network(network) for network in networks)


def _is_allowed(request: HttpRequest) -> bool:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        identity = auth.identity_of_token(token.strip())
        principal = identity.principal if identity else None
    else:
        principal = getattr(request, "user", None)
    found = topics.find(FEED)
    return principal is not None and found is not None and found[0].allows(principal, None)
