"""Renders responses as JSON with orjson, which encodes dates, UUIDs and plain rows without serializers."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import orjson
from rest_framework.renderers import BaseRenderer

OPTIONS: Final = orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS
INTEGERS: Final = range(-(2**63), 2**64)


class JSONRenderer(BaseRenderer):
    """Renders UTF-8 JSON; timestamps are in UTC with a ``Z``."""

    media_type = "application/json"
    format = "json"
    charset = None
    render_style = "binary"

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        if data is None:
            return b""
        try:
            return orjson.dumps(data, default=_default, option=OPTIONS)
        except TypeError:
            return orjson.dumps(_within_range(data), default=_default, option=OPTIONS)


def _default(value: Any) -> Any:
    """Encodes types that orjson does not know: structs and lazy translations."""
    if isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value)
    return str(value)


def _within_range(value: Any) -> Any:
    """Converts huge integers back to the floats they were: `jsonb` stores 1e300 as three hundred digits."""
    if isinstance(value, dict):
        return {name: _within_range(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_within_range(inner) for inner in value]
    return float(value) if isinstance(value, int) and value not in INTEGERS else value
