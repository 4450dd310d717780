"""Pages for failed requests (400, 403, 404, 413, 500 and 503), in the product's design and with a link back.

They need no session, database or context processor, because any of those may have failed. Below `/api/` the
same failures are problems (RFC 9457) instead of pages. Each template `<status>.html` can be rendered without a context.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from django.conf import settings
from django.core.exceptions import (
    BadRequest,
    RequestDataTooBig,
    SuspiciousOperation,
    TooManyFieldsSent,
    TooManyFilesSent,
)
from django.http import Http404, HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils import translation
from django.utils.http import url_has_allowed_host_and_scheme

from backoffice import error_messages
from backoffice.api import problems
from events import errors

API: Final = "/api/"
CODES: Final = {
    400: "malformed",
    403: "forbidden",
    404: "not_found",
    413: "too_large",
    500: "internal_error",
    503: "store_unavailable",
}
TOO_LARGE: Final = (RequestDataTooBig, TooManyFieldsSent, TooManyFilesSent)
RETRY_SECONDS: Final = 5
# The page when even the template cannot be rendered, for example because static files were not collected.
BARE: Final = '<!DOCTYPE html><title>{status} {phrase}</title><h1>{phrase}</h1><p><a href="/admin/">FormEase</a></p>'

log = logging.getLogger(__name__)


def page(
    request: HttpRequest, status: int, template: str | None = None, *, text: str = "", code: str = ""
) -> HttpResponse:
    """The answer to a failed request; never raises.

    `text` adds details to the page. In a problem, `text` and `code` replace those of the status.
    """
    if request.path_info.startswith(API):
        return _problem(status, code or CODES[status], text)
    try:
        language = translation.get_language_from_request(request)
        with translation.override(language):
            context = {"back": _back(request), "here": _here(request), "text": text}
            response = HttpResponse(render_to_string(template or f"{status}.html", context), status=status)
        response["Content-Language"] = language
    except Exception:
        log.exception("the page for status %d cannot be rendered", status)
        response = HttpResponse(BARE.format(status=status, phrase=HTTPStatus(status).phrase), status=status)
    response["Cache-Control"] = "no-store"
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        response["Retry-After"] = str(RETRY_SECONDS)
    return response


def _problem(status: int, code: str, text: str) -> HttpResponse:
    detail = text or HTTPStatus(status).description or HTTPStatus(status).phrase
    problem = problems.Problem(status, code, f"{detail.rstrip('.')}.")
    response = HttpResponse(json.dumps(problems.body(problem)), status=status, content_type=problems.MEDIA_TYPE)
    response["Cache-Control"] = "no-store"
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        response["Retry-After"] = str(RETRY_SECONDS)
    return response


def _back(request: HttpRequest) -> str:
    """Returns the referring page, if it belongs to this site and is not this page."""
    try:
        referrer, host = request.headers.get("Referer", ""), request.get_host()
        ours = url_has_allowed_host_and_scheme(referrer, {host}, require_https=request.is_secure())
        return referrer if ours and referrer != request.build_absolute_uri() else ""
    except SuspiciousOperation:  # the host is not in ALLOWED_HOSTS
        return ""


def _here(request: HttpRequest) -> str:
    """Returns the URL for another try; empty for a form, which a link cannot send again."""
    return request.get_full_path() if request.method == "GET" else ""


# -- handlers of Django -----------------------------------------------------------------------------------------------


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return page(request, 413 if isinstance(exception, TOO_LARGE) else 400)


def permission_denied(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:  # noqa: ARG001 - Django passes it by name
    return page(request, 403)


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:  # noqa: ARG001
    return page(request, 404)


def server_error(request: HttpRequest) -> HttpResponse:
    """Answers 503 while the database is unreachable, because a later request may succeed; otherwise 500."""
    return page(request, 503 if isinstance(sys.exc_info()[1], problems.UNAVAILABLE) else 500)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:  # noqa: ARG001
    """CSRF_FAILURE_VIEW: answers a form whose token is missing, outdated or of another session."""
    return page(request, 403, "403_csrf.html")


class ErrorPageMiddleware:
    """Answers 503 when the store is unavailable, and shows this site's error pages also with DEBUG=1.

    With DEBUG=1 other exceptions keep Django's page with the traceback.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if isinstance(exception, errors.EventsError) and exception.status == HTTPStatus.SERVICE_UNAVAILABLE:
            log.error("%s %s: %s", request.method, request.path, exception.message)
            return page(request, 503, text=error_messages.in_one_line(exception))
        if not settings.DEBUG:
            return None  # Django calls the functions above
        if isinstance(exception, Http404):
            return not_found(request)
        if isinstance(exception, TOO_LARGE):
            request._mark_post_parse_error()  # type: ignore[attr-defined] # as Django does, because POST cannot be read again
        return bad_request(request, exception) if isinstance(exception, SuspiciousOperation | BadRequest) else None
