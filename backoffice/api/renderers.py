"""Answers as JSON through orjson: dates, UUIDs and plain rows need no serializer in between."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson
from rest_framework.renderers import BaseRenderer


class JSONRenderer(BaseRenderer):
    """UTF-8 JSON; instants in UTC with a ``Z``."""

    media_type = "application/json"
    format = "json"
    charset = None
    render_style = "binary"

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        if data is None:
            return b""
        return orjson.dumps(data, default=_default, option=orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS)


def _default(value: Any) -> Any:
    """What orjson does not know by itself: structs, and the lazy translations in messages."""
    if isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value)
    return str(value)
