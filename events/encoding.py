"""Events and other stored values to JSON text, strictly and within the size limit. `decoding` reverses it."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import msgspec

from events import errors, strict_json, types
from events.types import Event

MAX_EVENT_BYTES: Final = 1 << 20
# Below it no event exceeds `MAX_EVENT_BYTES` as `jsonb` text, whatever its numbers.
SURELY_SMALL: Final = MAX_EVENT_BYTES // strict_json.MAX_GROWTH


def encode(event: Event | types.JsonDict) -> bytes:
    """Event data, or its personal part, as strict JSON within the size limit.

    Raises `InvalidEvent`, `InvalidJson` or `EventTooLarge`.
    """
    data = _strict(event)
    size = len(data)
    if SURELY_SMALL < size <= MAX_EVENT_BYTES:
        size = strict_json.stored_size(data, partial(msgspec.to_builtins, event))
    if size > MAX_EVENT_BYTES:
        raise errors.EventTooLarge(f"{type(event).__name__} has {size:,} bytes; at most {MAX_EVENT_BYTES:,}.")
    return data


def encoded(value: Any) -> str:
    """Other stored values (snapshots, remembered answers) as JSON text, by the same rules."""
    return _strict(value).decode()


def _strict(value: Any) -> bytes:
    try:
        data = msgspec.json.encode(value)
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise errors.InvalidEvent(f"{type(value).__name__} is not JSON: {error}") from error
    strict_json.check_encoded(data, partial(msgspec.to_builtins, value))
    return data
