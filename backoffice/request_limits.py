"""The size limit of request bodies, enforced before Django sees the request.

Django reads the whole body of a request into a temporary file before the first middleware runs, so a limit inside
Django comes too late: any client could fill the disk through any path. This ASGI layer is outside Django, applies to
every path, and needs no session, key or database. Browsers get the page for 413.
"""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse
from django.middleware.clickjacking import XFrameOptionsMiddleware
from django.middleware.security import SecurityMiddleware

from backoffice import error_pages
from backoffice.middleware import ContentSecurityPolicyMiddleware

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]


class TooLarge(Exception):
    """The body exceeds the limit; raised in the application's `receive`."""


class Limit:
    """Answers 413 to requests whose body exceeds `DATA_UPLOAD_MAX_MEMORY_SIZE`.

    1  `Content-Length` above the limit: 413; the body is not read, and no `100 Continue` is sent
    2  otherwise count the bytes while the application reads: 413 at the first byte too many
    """

    def __init__(self, application: Application, max_bytes: int | None = None) -> None:
        self.application = application
        self.max_bytes = settings.DATA_UPLOAD_MAX_MEMORY_SIZE if max_bytes is None else max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _announced(scope) > self.max_bytes:
            await self._refuse(scope, send)
            return
        read = 0
        started = False

        async def counted_receive() -> Message:
            nonlocal read
            message = await receive()
            if message["type"] == "http.request":
                read += len(message.get("body", b""))
                if read > self.max_bytes:
                    raise TooLarge
            return message

        async def watched_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.application(scope, counted_receive, watched_send)
        except TooLarge:
            if started:  # a second answer is impossible; the server closes the connection
                raise
            await self._refuse(scope, send)

    async def _refuse(self, scope: Scope, send: Send) -> None:
        answer = await asyncio.to_thread(_answer, scope, self.max_bytes)
        answer["Content-Length"] = str(len(answer.content))
        answer["Connection"] = "close"  # the rest of the body must not be read as the next request
        headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in answer.items()]
        await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else answer.content})


def _announced(scope: Scope) -> int:
    """Returns the `Content-Length`; 0 when it is absent or no number, because the bytes are counted anyway."""
    for name, value in scope.get("headers", ()):
        if bytes(name).lower() == b"content-length":
            digits = bytes(value).strip()
            if digits.isdigit():
                return int(digits) if len(digits) < 20 else 10**20
    return 0


def _answer(scope: Scope, max_bytes: int) -> Any:
    """Returns the refusal: a problem for the API, a page for a browser, plain text for other clients."""
    text = f"The request body is larger than this server accepts ({max_bytes:,} bytes)."
    try:
        request = ASGIRequest(scope, io.BytesIO())
        if request.path_info.startswith(error_pages.API) or "text/html" in request.headers.get("Accept", ""):
            return _as_page(request, text)
    except (KeyError, ValueError):  # a request that Django cannot read
        pass
    return HttpResponse(f"{text}\n", "text/plain; charset=utf-8", 413, headers={"Cache-Control": "no-store"})


def _as_page(request: ASGIRequest, text: str) -> Any:
    """Returns the page of `error_pages`, with the headers that all pages have."""
    page = ContentSecurityPolicyMiddleware(lambda asked: error_pages.page(asked, 413, text=text))
    response: Any = XFrameOptionsMiddleware(page)(request)
    return SecurityMiddleware(page).process_response(request, response)


# -- Daphne -----------------------------------------------------------------------------------------------------------


def limit_daphne() -> None:
    """Applies the limit inside Daphne, if this process runs under it.

    Daphne (`manage.py runserver`) stores the whole body in a temporary file before it calls the application.
    """
    protocol = sys.modules.get("daphne.http_protocol")
    if protocol is None or getattr(protocol.WebRequest, "_limits_bodies", False):
        return
    request_class = protocol.WebRequest
    got_length, handle_chunk = request_class.gotLength, request_class.handleContentChunk

    def limited_length(request: Any, length: int | None) -> None:
        got_length(request, 0 if _exceeds(length) else length)
        if _exceeds(length):
            _end_daphne(request)

    def limited_chunk(request: Any, data: bytes) -> None:
        if _exceeds(request.content.tell() + len(data)):
            _end_daphne(request)
        else:
            handle_chunk(request, data)

    request_class.gotLength, request_class.handleContentChunk = limited_length, limited_chunk
    request_class._limits_bodies = True


def _exceeds(length: int | None) -> bool:
    return length is not None and length > settings.DATA_UPLOAD_MAX_MEMORY_SIZE


def _end_daphne(request: Any) -> None:
    """Answers 413 on the connection itself and closes it: there is no complete request to answer yet."""
    channel = request.channel
    if channel is None or getattr(channel, "_body_refused", False):
        return
    channel._body_refused = True
    channel.transport.write(b"HTTP/1.1 413 Request Entity Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    channel.loseConnection()
