"""Finds the rows behind identities that have changed since they were read, with one statement for all sockets.

A row's version is its `xmin`, the transaction that wrote it: every change gives it a new one, whether it comes from a
page, `manage.py` or direct SQL, and a deleted row has none. So no change needs to be announced, and no announcement
can be lost. See docs/adr/0012-rows-are-watched.md.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any, NamedTuple

from realtime import log_reader


class Source(NamedTuple):
    """A table and its key, both quoted, and the key's type."""

    table: str
    key: str
    type: str


class Row(NamedTuple):
    """A row's key and its version when it was read."""

    source: Source
    key: str
    version: str


async def changed(rows: Iterable[Row], reader: log_reader.LogReader) -> set[Row]:
    """The rows whose version has changed or that are gone. Raises `log_reader.Unavailable`."""
    grouped: dict[Source, list[Row]] = {}
    for row in set(rows):
        grouped.setdefault(row.source, []).append(row)
    if not grouped:
        return set()
    given: list[list[str]] = []
    for some in grouped.values():
        given += [[row.key for row in some], [row.version for row in some]]
    statement: Any = _statement(tuple(grouped))

    async def read(connected: log_reader.Connection) -> list[tuple[int, str, str]]:
        return await (await connected.execute(statement, given)).fetchall()

    sources = list(grouped)
    return {Row(sources[number], key, version) for number, key, version in await reader.query(read)}


@functools.lru_cache(maxsize=64)
def _statement(sources: tuple[Source, ...]) -> str:
    """One primary-key lookup per row in each table. Names come from models, values are parameters."""
    return " union all ".join(
        f"select {number}, w.key, w.version from unnest(%s::text[], %s::text[]) w(key, version) "  # noqa: S608
        f"left join {source.table} r on r.{source.key} = w.key::{source.type} "
        f"where r.xmin::text is distinct from w.version"
        for number, source in enumerate(sources)
    )
