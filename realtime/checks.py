"""System checks that reject a wrong configuration at start-up."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import msgspec
from django.conf import settings
from django.core import checks

from realtime import conf


@checks.register("realtime")
def check_limits(**_kwargs: Any) -> list[checks.CheckMessage]:
    """Checks that `REALTIME` has only known names, and that its numbers are consistent."""
    try:
        limits = conf.limits()
    except msgspec.ValidationError as error:
        return [checks.Error(f"REALTIME: {error}", hint="The names are in realtime/conf.py.", id="realtime.E001")]
    if limits.ack_frames * 2 > limits.window_frames or limits.ack_bytes * 2 > limits.window_bytes:
        hint = "A client acknowledges every ack_frames; a window of less than twice that stalls every reader."
        return [checks.Error("REALTIME: the credit window is too small.", hint=hint, id="realtime.E002")]
    return []


@checks.register("realtime")
def check_origins(**_kwargs: Any) -> list[checks.CheckMessage]:
    """Checks that each of `ALLOWED_ORIGINS` is an origin: scheme, host and optional port, nothing else."""
    found: list[checks.CheckMessage] = []
    for origin in getattr(settings, "ALLOWED_ORIGINS", None) or []:
        parts = urlsplit(origin)
        if parts.scheme not in {"http", "https"} or not parts.netloc or parts.path not in {"", "/"} or parts.query:
            hint = "Write it as the browser sends it, such as https://admin.example.com or http://localhost:8000."
            found.append(checks.Error(f"ALLOWED_ORIGINS: {origin!r} is not an origin.", hint=hint, id="realtime.E003"))
    return found
