"""Returns every refusal as RFC 9457 `application/problem+json`, with a stable `code`.

`status`, `code` and `detail` are always present; `errors` has one message per field; a conflict has the three
versions.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import psycopg
from django.core.exceptions import BadRequest, PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.core.signals import got_request_exception
from django.db.utils import InterfaceError, OperationalError
from django.http import Http404, UnreadablePostError
from psycopg_pool import PoolTimeout
from rest_framework import exceptions, status
from rest_framework.request import Request
from rest_framework.response import Response

from events import context as events_context
from events import errors

log = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/problem+json"

# Exceptions of DRF, most specific class first.
CODES: Final[Mapping[type[exceptions.APIException], str]] = {
    exceptions.NotAuthenticated: "not_authenticated",
    exceptions.AuthenticationFailed: "not_authenticated",
    exceptions.PermissionDenied: "forbidden",
    exceptions.ParseError: "malformed",
    exceptions.NotFound: "not_found",
    exceptions.MethodNotAllowed: "method_not_allowed",
    exceptions.NotAcceptable: "not_acceptable",
    exceptions.UnsupportedMediaType: "unsupported_media_type",
    exceptions.Throttled: "rate_limited",
}

# Exceptions of Django, most specific class first: status, code, message.
PLAIN: Final[tuple[tuple[Any, tuple[int, str, str]], ...]] = (
    (Http404, (404, "not_found", "There is no such record or address.")),
    (PermissionDenied, (403, "forbidden", "You may not do this.")),
    (RequestDataTooBig, (413, "too_large", "The request is larger than this server accepts.")),
    ((SuspiciousOperation, BadRequest, UnreadablePostError), (400, "malformed", "The request cannot be read.")),
)

UNAVAILABLE: Final = (OperationalError, InterfaceError, psycopg.OperationalError, PoolTimeout)


class Problem(exceptions.APIException):
    """A refusal raised by the API itself: status, stable code, message and further members."""

    def __init__(
        self, status_code: int, code: str, detail: str, *, headers: Mapping[str, str] | None = None, **extra: Any
    ) -> None:
        super().__init__(detail, code)
        self.status_code, self.problem, self.headers, self.extra = status_code, code, dict(headers or {}), extra


def malformed(detail: str, code: str = "malformed", **extra: Any) -> Problem:
    return Problem(status.HTTP_400_BAD_REQUEST, code, detail, **extra)


def forbidden(missing: str, code: str = "forbidden", detail: str | None = None) -> Problem:
    """Returns a 403 that names the missing action (``user.delete``), field (``user.plan``) or scope."""
    return Problem(status.HTTP_403_FORBIDDEN, code, detail or f"Your role does not allow {missing}.", missing=missing)


def exception_handler(error: Exception, context: Mapping[str, Any]) -> Response:
    """DRF's exception handler: returns each exception as a problem.

    Unexpected exceptions are logged, and their problem has no details.
    """
    problem = described(error)
    request: Request | None = context.get("request")
    if problem is None:
        log.error("api: unforeseen", exc_info=error)
        got_request_exception.send(sender=None, request=getattr(request, "_request", None))
        problem = Problem(500, "internal_error", "Something went wrong here; it was recorded.")
    return response(problem, request)


def response(problem: Problem, request: Request | None = None) -> Response:
    headers = problem.headers | {"Cache-Control": "no-store"}
    return Response(body(problem, request), problem.status_code, headers=headers, content_type=MEDIA_TYPE)


def body(problem: Problem, request: Request | None = None) -> dict[str, Any]:
    """Returns the JSON of a problem, also for single items of a batch."""
    shown = {
        "type": f"urn:formease:problem:{problem.problem}",
        "title": HTTPStatus(problem.status_code).phrase,
        "status": problem.status_code,
        "code": problem.problem,
        "detail": str(problem.detail),
        **problem.extra,
    }
    if request is not None:
        shown["instance"] = request.path
        shown["request_id"] = events_context.current().correlation_id
    return shown


def described(error: Exception) -> Problem | None:
    """Returns the problem for an exception, or None for an error of the server itself."""
    match error:
        case Problem():
            return error
        case errors.EventsError():
            return _of_the_store(error)
        case exceptions.APIException():
            return _of_the_framework(error)
        case _ if isinstance(error, UNAVAILABLE):
            return _of_the_store(errors.StoreUnavailable())
        case _:
            found = next((plain for kinds, plain in PLAIN if isinstance(error, kinds)), None)
            return Problem(*found) if found else None


def _of_the_store(error: errors.EventsError) -> Problem | None:
    extra: dict[str, Any] = {}
    detail = error.message
    if isinstance(error, errors.InvalidCommand | errors.IdempotencyKeyReused):
        extra["errors"] = complaints = dict(getattr(error, "fields", None) or {"id": error.message})
        if type(error) is errors.InvalidCommand:
            detail = " ".join(f"{field}: {message}" for field, message in complaints.items())
    if isinstance(error, errors.Conflict):
        names = ("why", "stream", "base_version", "version", "base", "theirs", "mine", "fields", "conflicts")
        extra |= {name: getattr(error, name) for name in (*names, "conflict_id")}
    for name in ("parameter", "missing"):
        if value := getattr(error, name, None):
            extra[name] = value
    if error.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return None
    headers = {"Retry-After": "5"} if error.status == HTTPStatus.SERVICE_UNAVAILABLE else None
    return Problem(error.status, error.code, detail, headers=headers, **extra)


def _of_the_framework(error: exceptions.APIException) -> Problem:
    code = next((code for kind, code in CODES.items() if isinstance(error, kind)), error.default_code)
    headers = {}
    if challenge := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = challenge
    if (wait := getattr(error, "wait", None)) is not None:
        headers["Retry-After"] = str(int(wait))
    return Problem(error.status_code, code, str(error.detail), headers=headers)
