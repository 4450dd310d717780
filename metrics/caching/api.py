"""`system/cache/`: the figures of the cache, by process and by query."""

from __future__ import annotations

from typing import Any

import msgspec
from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response

from backoffice.api import openapi, permissions, views
from events.db import timeouts
from metrics.caching import pages

STATEMENT_SECONDS = 5.0


class Cache(views.View):
    """The caches of all processes."""

    operations = {
        "GET": openapi.Operation(
            id="read_cache",
            summary="Figures of the cache by process and query",
            description="`complete` is false while Valkey cannot be reached: then only the answering process is shown.",
            tag="system",
            response=openapi.ref("CacheFigures"),
            errors=(400, 401, 403, 429, 503),
            scope="system:read",
        )
    }

    def get(self, request: Request) -> Response:
        permissions.require_system(request, "view")
        views.allow_parameters(request, ())
        with timeouts.at_most(STATEMENT_SECONDS):
            found, complete = pages.process_rows()
        rows = pages.query_rows([one.cache for one in found])
        return Response(
            {"processes": [_process(one) for one in found], "queries": [_query(row) for row in rows]}
            | {"complete": complete}
        )


def _process(one: pages.ProcessRow) -> dict[str, Any]:
    names = ("connected", "position", "valkey", "bytes", "limit")
    return {"host": one.host, "pid": one.pid, "behind": one.late} | {name: getattr(one.cache, name) for name in names}


def _query(row: pages.QueryRow) -> dict[str, Any]:
    counts = msgspec.structs.asdict(row.counts)
    declared = {"within": row.within, "seconds": row.seconds, "shared": row.shared}
    return counts | {"shared_hits": counts["shared"]} | declared


urlpatterns = [path("system/cache/", Cache.as_view(), name="api-cache")]
