"""Settings as the API shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from backoffice.api import shapes


class Setting(shapes.Shape, frozen=True, kw_only=True):
    """A system setting: any JSON value under a name."""

    key: str
    version: int
    value: Any
    updated_at: datetime
