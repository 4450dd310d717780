"""Small layers around every request: static files, who acts (for the event store), and what a page may load (CSP)."""

from __future__ import annotations

import io
import logging
import uuid
from collections.abc import Callable
from http import HTTPStatus

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from whitenoise.middleware import WhiteNoiseMiddleware
from whitenoise.responders import StaticFile

from backoffice import phrases
from events import context, errors

log = logging.getLogger(__name__)

GetResponse = Callable[[HttpRequest], HttpResponse]


class StaticFilesMiddleware(WhiteNoiseMiddleware):  # type: ignore[misc] # it has no types
    """WhiteNoise, with each file as one piece: under ASGI Django takes a stream into memory too, and warns of it."""

    @staticmethod
    def serve(static_file: StaticFile, request: HttpRequest) -> HttpResponse:
        found = static_file.get_response(request.method, request.META)
        with found.file or io.BytesIO() as file:
            response = HttpResponse(file.read(), status=int(found.status))
        del response["Content-Type"]
        for name, value in found.headers:
            response[name] = value
        return response


class ContextMiddleware:
    """Opens the event store's context for the request: actor, address, browser, correlation id.

    `X-Request-ID` (a UUID) from a trusted client becomes the correlation id and is sent back either way.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        user = getattr(request, "user", None)
        staff = user if user is not None and user.is_authenticated else None
        with context.acting(
            context.Context(),
            actor=f"staff:{staff.pk}" if staff else "anonymous",
            actor_name=(staff.get_full_name() or staff.get_username()) if staff else None,
            ip=request.META.get("REMOTE_ADDR"),
            user_agent=request.headers.get("User-Agent", "")[:300] or None,
            correlation_id=_request_id(request),
        ) as acting:
            response = self.get_response(request)
            response.headers.setdefault("X-Request-ID", str(acting.correlation_id))
        return response


def _request_id(request: HttpRequest) -> uuid.UUID | None:
    try:
        return uuid.UUID(request.headers.get("X-Request-ID", ""))
    except ValueError:
        return None


class ContentSecurityPolicyMiddleware:
    """Sends `settings.SECURE_CSP` as a header, under the name and shape that Django 6 uses."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        self.policy = "; ".join(f"{name} {' '.join(sources)}" for name, sources in settings.SECURE_CSP.items())

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response.headers.setdefault("Content-Security-Policy", self.policy)
        return response


class UnavailableMiddleware:
    """A page that cannot be made now because the store says so: 503 with the reason, not a fault of the program."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if not isinstance(exception, errors.EventsError) or exception.status != HTTPStatus.SERVICE_UNAVAILABLE:
            return None
        log.error("%s %s: %s", request.method, request.path, exception.message)
        shown = {"message": phrases.in_one_line(exception), "code": exception.code}
        page = render(request, "backoffice/unavailable.html", shown, status=exception.status)
        page.headers["Retry-After"] = "5"
        page.headers["Cache-Control"] = "no-store"
        return page
