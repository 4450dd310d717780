"""Lets pages and the API read from a standby of PostgreSQL, as far as their reader's position allows.

The position of a browser is in the cookie `fe_position`: the highest that it wrote, was shown, or received over its
socket (`live.js`). Programs name theirs in the header `X-Log-Position`, the `position` of a command's answer. Without a
position, and for everything but reading, the primary is used (`events.db.replica`).
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
HEADER: Final = "X-Log-Position"

R = TypeVar("R", bound=HttpResponseBase)


def position_of(request: HttpRequest) -> int | None:
    """The position up to which the sender of a request has seen the log; None where it is not known."""
    named = request.headers.get(HEADER) or request.COOKIES.get(COOKIE, "")
    return int(named) if re.fullmatch(r"[0-9]{1,18}", named, re.ASCII) else None


def reads(view: Callable[..., R]) -> Callable[..., R]:
    """Decorator of a method for a page that only reads: it may be served from the standby."""

    @functools.wraps(view)
    def shown(self: Any, request: HttpRequest, *args: Any, **named: Any) -> R:
        if request.method not in {"GET", "HEAD"}:
            return view(self, request, *args, **named)
        return replica.run(position_of(request), lambda: view(self, request, *args, **named))

    return shown


class PositionMiddleware:
    """Keeps the position of a browser in its cookie: what a response shows, and what its request wrote."""

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
            response.set_cookie(COOKIE, str(position), samesite="Lax", secure=settings.SESSION_COOKIE_SECURE)
        return response
