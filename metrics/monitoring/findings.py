"""The result of a check of `manage.py doctor`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One line of the report; `state` is ok, note (works, but has a limitation) or wrong."""

    subject: str
    state: str
    text: str
