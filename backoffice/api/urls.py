"""URLs of the HTTP API. The path contains the version; within a version, URLs are only added."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from django.urls import include, path
from django.urls.resolvers import URLPattern, URLResolver
from rest_framework.request import Request
from rest_framework.response import Response

from backoffice import section
from backoffice.api import commands, docs, ingest, problems, records, streams, sync, views


class UnknownUrl(views.View):
    """Answers unknown URLs with 404 as a problem instead of a page."""

    permission_classes: list[Any] = []
    authentication_classes: list[Any] = []
    throttle_classes: list[Any] = []
    schema = None  # type: ignore[assignment]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        raise problems.Problem(404, "not_found", "There is no such address in this API.")

    def get(self, request: Request, **_: Any) -> Response:
        raise AssertionError("initial() has refused")


def _declared() -> list[URLPattern]:
    """Returns the URLs of all sections, then those of their kinds of record."""
    found: list[URLPattern] = []
    for one in section.sections():
        if one.api_urls:
            found += import_module(one.api_urls).urlpatterns
        found += [address for kind in one.kinds for address in records.urls_of(kind)]
    return found


urlpatterns: list[URLPattern | URLResolver] = [
    path("schema/", docs.Schema.as_view(), name="api-schema"),
    path("docs/", docs.page, name="api-docs"),
    path("v1/commands/", commands.Commands.as_view(), name="api-commands"),
    path("v1/ingest/", ingest.Ingest.as_view(), name="api-ingest"),
    path("v1/sync/", sync.Sync.as_view(), name="api-sync"),
    path("v1/events/", streams.Events.as_view(), name="api-events"),
    path("v1/streams/<str:stream>/", streams.Stream.as_view(), name="api-stream"),
    path("v1/streams/<str:stream>/state/", streams.State.as_view(), name="api-state"),
    path("v1/", include(_declared())),
    path("<path:rest>", UnknownUrl.as_view()),
]
