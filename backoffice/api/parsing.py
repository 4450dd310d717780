"""Parses request bodies as JSON by the rules of `events.strict_json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from rest_framework.parsers import BaseParser

from events import strict_json


class JSONParser(BaseParser):
    """Parses `application/json`. Raises 400 with a code for the broken rule, or 413."""

    media_type = "application/json"

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        return loads(read(stream))


class AnyJSONParser(JSONParser):
    """Parses JSON under any content type, for endpoints that check the content type themselves."""

    media_type = "*/*"


def read(stream: IO[Any]) -> bytes:
    """Reads the body, at most `DATA_UPLOAD_MAX_MEMORY_SIZE` bytes."""
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    body: bytes = stream.read(limit + 1)
    if len(body) > limit:
        raise RequestDataTooBig
    return body


def loads(body: bytes) -> Any:
    """Returns JSON as Python values. Raises `errors.InvalidJson`."""
    return strict_json.loads(body, max_bytes=settings.DATA_UPLOAD_MAX_MEMORY_SIZE)
