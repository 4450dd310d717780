"""Which of the rows that identities were read from have changed since: one statement for all sockets of a process.

A row's version is its `xmin`, the transaction that wrote it: any change gives it another one, by
every way (a page, `manage.py`, SQL by hand), and a row that is gone has none. So nobody has to announce a change for
it to be noticed, and nothing that could lose an announcement takes part in it. See docs/adr/0012-rows-are-watched.md.
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
    """A row as it was when it was read."""

    source: Source
    key: str
    version: str


async def changed(rows: Iterable[Row], reader: log_reader.Log) -> set[Row]:
    """Those of the rows that are not as they were. Raises `log.Unavailable`."""
    grouped: dict[Source, list[Row]] = {}
    for row in set(rows):
        grouped.setdefault(row.source, []).append(row)
    if not grouped:
        return set()
    given: list[list[str]] = []
    for some in grouped.values():
        given += [[row.key for row in some], [row.version for row in some]]
    statement: Any = _statement(tuple(grouped))

    async def ask(connected: log_reader.Connection) -> list[tuple[int, str, str]]:
        return await (await connected.execute(statement, given)).fetchall()

    sources = list(grouped)
    return {Row(sources[number], key, version) for number, key, version in await reader.ask(ask)}


@functools.lru_cache(maxsize=64)
def _statement(sources: tuple[Source, ...]) -> str:
    """One look at each table, by its key. Names come from models, values are parameters."""
    return " union all ".join(
        f"select {number}, w.key, w.version from unnest(%s::text[], %s::text[]) w(key, version) "  # noqa: S608
        f"left join {source.table} r on r.{source.key} = w.key::{source.type} "
        f"where r.xmin::text is distinct from w.version"
        for number, source in enumerate(sources)
    )
