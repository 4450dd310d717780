"""Converts values to and from PostgreSQL in the pipeline, with the connection's own adapters and additional ones."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from psycopg.abc import Buffer
from psycopg.adapt import AdaptersMap, Loader

from events.db import arrays


class AdaptContext:
    """psycopg's adaptation context: the connection's own adapters, and ours."""

    def __init__(self, raw: Any) -> None:
        self.connection = raw
        self.adapters = AdaptersMap(raw.adapters)
        arrays.register(self.adapters)
        self.adapters.register_loader("timestamptz", InstantLoader)


class InstantLoader(Loader):
    """Parses `timestamptz` in C; psycopg and Django use regular expressions, which are far slower."""

    def load(self, data: Buffer) -> datetime:
        return datetime.fromisoformat(bytes(data).decode())
