"""Base view of the API: authentication, throttling, consistency and parsing of query parameters."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, Final

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from backoffice import access_log, models, standby
from backoffice.api import openapi, problems, throttling
from events import context, head
from events.db import replica
from events.privacy import encryption
from events.subscriptions import progress

MAX_POSITION: Final = 2**63 - 1
CONSISTENT_SECONDS: Final = 5.0


class View(APIView):
    """Base of the API's views. A key acts under its own name, ``key:<prefix>``, with its owner's role."""

    schema = openapi.Described()
    throttle_classes = [throttling.PerPrincipal]
    operations: ClassVar[Mapping[str, openapi.Operation]] = {}
    # Subscriptions that update the tables this view reads. Inline read tables need none: they are written in the
    # command's own transaction, so they are current as soon as the command is answered.
    fed_by: ClassVar[tuple[str, ...]] = ()
    # Whether a standby may be read, for callers that say which position they have seen.
    reads_standby: ClassVar[bool] = False
    # Parameters with which the primary answers nevertheless.
    needs_primary: ClassVar[frozenset[str]] = frozenset({"consistent"})
    may_use_standby, on_standby = True, False

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = self._dispatched(request, *args, **kwargs)
        if response is None:
            self.may_use_standby = False
            response = self._dispatched(request, *args, **kwargs)
        assert response is not None
        response.headers.setdefault("Cache-Control", "private, no-store")
        patch_vary_headers(response, ["Authorization", "Cookie"])
        return response

    def _dispatched(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase | None:
        """The answer; None where the standby failed it."""
        self.on_standby = False
        with contextlib.ExitStack() as self.acting:
            try:
                return super().dispatch(request, *args, **kwargs)
            except Exception as error:
                if not self._failed_on_standby(error):
                    raise
        return None

    def handle_exception(self, exc: Exception) -> Response:
        if self._failed_on_standby(exc):
            raise exc
        return super().handle_exception(exc)

    def _failed_on_standby(self, error: Exception) -> bool:
        if not self.on_standby or not replica.is_fault(error):
            return False
        replica.STANDBY.note_failure(error)
        return True

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        key = request.auth
        if isinstance(key, models.ApiKey):
            acting = context.acting(actor=f"key:{key.prefix}", actor_name=key.name)
            access_log.entry(request).actor = self.acting.enter_context(acting).actor
        for name, found in request.query_params.lists():
            if len(found) > 1:
                detail = f"{name} is there {len(found)} times; send it once."
                raise problems.malformed(detail, "repeated_parameter", parameter=name)
        self._be_consistent(request)
        reads = self.reads_standby and self.may_use_standby and request.method in {"GET", "HEAD"}
        if reads and self.needs_primary.isdisjoint(request.query_params):
            self.on_standby = self.acting.enter_context(replica.reading(standby.position_of(request._request)))

    def feeding(self) -> Sequence[str]:
        """Returns the subscriptions that ``consistent=1`` waits for."""
        return self.fed_by

    def _be_consistent(self, request: Request) -> None:
        """With ``consistent=1``, waits until the view's tables contain all committed events.

        Raises 504 after `CONSISTENT_SECONDS`.
        """
        wanted = request.query_params.get("consistent")
        if wanted not in (None, "1"):
            raise problems.malformed("consistent takes 1.", "invalid_parameter", parameter="consistent")
        names = self.feeding() if wanted else ()
        if names:
            reached = head.newest()
            for name in names:
                progress.wait_for(name, reached, CONSISTENT_SECONDS)


def allow_parameters(request: Request, allowed: Collection[str]) -> None:
    """Raises 400 for query parameters that would be ignored silently."""
    for name in request.query_params:
        if name not in allowed:
            listed = ", ".join(sorted(allowed))
            raise problems.malformed(
                f"Unknown parameter {name!r}; known: {listed}.",
                "unknown_parameter",
                parameter=name,
                allowed=sorted(allowed),
            )


def reason(request: Request) -> str | None:
    """Returns the reason from the query, for requests without a body. Raises 400 when it is too long."""
    text = request.query_params.get("reason", "").strip()
    if len(text) > encryption.MAX_REASON:
        detail = f"reason has at most {encryption.MAX_REASON} characters."
        raise problems.malformed(detail, "invalid_parameter", parameter="reason")
    return text or None


def integer(request: Request, name: str, default: int, *, least: int = 0, most: int = MAX_POSITION) -> int:
    """Returns a whole number from the query. Raises 400 naming the parameter."""
    text = request.query_params.get(name)
    if text is None:
        return default
    digits = text.isascii() and text.isdigit() and len(text) <= 19
    if not digits or not least <= int(text) <= most:
        detail = f"{name} must be a whole number from {least} to {most}."
        raise problems.malformed(detail, "invalid_parameter", parameter=name)
    return int(text)
