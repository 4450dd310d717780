"""Lets pages and the API read from a standby of PostgreSQL, as far as their reader's position allows.

The position of a browser is in two cookies: `fe_written` is the highest that it wrote, `fe_position` the highest that
it was shown or received over its socket (`live.js`). Programs name theirs in the header `X-Log-Position`, the
`position` of a command's answer. Without a position, and for everything but reading, the primary is used
(`events.db.replica`).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

from django.conf import settings
from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from events import head
from events.db import replica

COOKIE: Final = "fe_position"
# Separate, because the answer to a reading request may arrive after that to a later writing one, with a lower position.
WRITTEN: Final = "fe_written"
HEADER: Final = "X-Log-Position"
READING: Final = frozenset({"GET", "HEAD"})

R = TypeVar("R", bound=HttpResponseBase)


def position_of(request: HttpRequest) -> int | None:
    """The position up to which the sender of a request has seen the log; None where it is not known."""
    header = request.headers.get(HEADER)
    named = [header] if header else [request.COOKIES.get(name, "") for name in (COOKIE, WRITTEN)]
    return max((int(text) for text in named if re.fullmatch(r"[0-9]{1,18}", text, re.ASCII)), default=None)


def reads(view: Callable[..., R]) -> Callable[..., R]:
    """Decorator of a method for a page that only reads: it may be served from the standby."""

    @functools.wraps(view)
    def shown(self: Any, request: HttpRequest, *args: Any, **named: Any) -> R:
        if request.method not in READING:
            return view(self, request, *args, **named)
        return replica.run(position_of(request), lambda: view(self, request, *args, **named))

    return shown


class PositionMiddleware:
    """Keeps the position of a browser in its cookies: what a response shows, and what its request wrote."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        if not replica.configured():
            raise MiddlewareNotUsed
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        known = position_of(request)
        with replica.watching() as shown:
            response = self.get_response(request)
        is_page = response.headers.get("Content-Type", "").startswith("text/html")
        position = max(shown.position, head.newest() if known is None and is_page else 0)
        if position > (known or 0):
            name = COOKIE if request.method in READING else WRITTEN
            response.set_cookie(name, str(position), samesite="Lax", secure=settings.SESSION_COOKIE_SECURE)
        return response
