"""Streams a response of any size in pieces, under ASGI and WSGI."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse


def download(
    request: HttpRequest, pieces: Iterator[bytes], name: str, content_type: str = "application/json"
) -> StreamingHttpResponse:
    """Returns `pieces` of a file as a download. Django needs a sync or async iterator, depending on the server."""
    content = _awaited(pieces) if isinstance(request, ASGIRequest) else pieces
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return StreamingHttpResponse(content, content_type=content_type, headers=headers)


async def _awaited(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Yields the pieces, each made on the request's own thread, which has its database connection."""

    def following() -> bytes | None:
        return next(pieces, None)

    while (piece := await sync_to_async(following)()) is not None:
        yield piece
