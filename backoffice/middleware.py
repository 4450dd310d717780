"""Middleware: static files, malformed addresses, the context of the event store, caching, content security policy."""

from __future__ import annotations

import codecs
import io
import uuid
from collections.abc import Callable
from typing import Final

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from whitenoise.middleware import WhiteNoiseMiddleware
from whitenoise.responders import StaticFile

from backoffice import access_log, error_pages, static_files
from events import context, strict_json

GetResponse = Callable[[HttpRequest], HttpResponse]


class StaticFilesMiddleware(WhiteNoiseMiddleware):  # type: ignore[misc] # WhiteNoise has no types
    """WhiteNoise without streaming, and with the files that releases share.

    Under ASGI Django would buffer a stream anyway and log a warning.
    """

    def __call__(self, request: HttpRequest) -> HttpResponse:
        path = request.path_info
        if not self.autorefresh and path.startswith(self.static_prefix) and path not in self.files:
            shared = static_files.shared(path.removeprefix(self.static_prefix))
            if shared is not None:
                self.add_file_to_dictionary(path, str(shared))
        response: HttpResponse = super().__call__(request)
        return response

    @staticmethod
    def serve(static_file: StaticFile, request: HttpRequest) -> HttpResponse:
        found = static_file.get_response(request.method, request.META)
        with found.file or io.BytesIO() as file:
            response = HttpResponse(file.read(), status=int(found.status))
        del response["Content-Type"]
        for name, value in found.headers:
            response[name] = value
        return response


FORMS: Final = frozenset({"application/x-www-form-urlencoded", "multipart/form-data"})


class AddressMiddleware:
    """Rejects URLs that contain U+0000 (404 or 400) and forms in an encoding other than UTF-8 (400).

    PostgreSQL cannot store U+0000. Some encodings of Python decode to half a surrogate pair, or to no text at all.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.encoding is not None and not _is_utf8(request.encoding):
            if request.content_type in FORMS:
                return error_pages.page(request, 400, text="Send forms in UTF-8.")
            request.encoding = "utf-8"
        if "\0" in request.path_info:
            return error_pages.page(request, 404)
        query = request.META.get("QUERY_STRING", "")
        if "%00" in query or "\0" in query:
            return error_pages.page(request, 400, text=strict_json.NUL_CHARACTER, code="nul_character")
        return self.get_response(request)


def _is_utf8(name: str) -> bool:
    try:
        return codecs.lookup(name).name in ("utf-8", "ascii")
    except LookupError:
        return False


class ContextMiddleware:
    """Opens the event store's context for the request: actor, IP address, browser, correlation id.

    The correlation id is always new and returned as `X-Request-ID`: a client that could choose it could attach its
    events to another person's request. A UUID that a client or a proxy sends as `X-Request-ID` is stored with the
    events as `client_request_id`, which correlates nothing. Other text is dropped, because it could be personal data.
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
            user_agent=request.headers.get("User-Agent", "").replace("\0", "")[:300] or None,
            client_request_id=_request_id(request),
        ) as acting:
            with context.observing_writes() as written:
                response = self.get_response(request)
            response.headers.setdefault("X-Request-ID", str(acting.correlation_id))
        noted = access_log.entry(request)
        noted.request_id, noted.actor = str(acting.correlation_id), noted.actor or acting.actor
        noted.path = request.path if request.resolver_match and response.status_code != 404 else None
        noted.stream, noted.position = written.stream, written.position
        return response


def _request_id(request: HttpRequest) -> str | None:
    try:
        return str(uuid.UUID(request.headers.get("X-Request-ID", "")))
    except ValueError:
        return None


class NoStoreMiddleware:
    """Adds `no-store` to every response without a `Cache-Control` of its own, because most contain personal data.

    Static files do not pass this middleware. The service worker stores record pages in its own cache regardless.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response.headers.setdefault("Cache-Control", "private, no-store")
        return response


class ApplicationMiddleware:
    """Marks every response, including static files and error pages, as one of this application.

    Scripts need to know: a gateway, a firewall or the sign-in page of a network answers requests too, with any status.
    """

    HEADER: Final = "X-FormEase"

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response.headers[self.HEADER] = "1"
        return response


class ContentSecurityPolicyMiddleware:
    """Sends `settings.SECURE_CSP` as a header; name and format are those of Django 6."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        self.policy = "; ".join(f"{name} {' '.join(sources)}" for name, sources in settings.SECURE_CSP.items())

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response.headers.setdefault("Content-Security-Policy", self.policy)
        return response
