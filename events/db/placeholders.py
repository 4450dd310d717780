"""Python's placeholders in a statement as those of PostgreSQL's protocol."""

from __future__ import annotations

import re
from functools import lru_cache

_MARK = re.compile(r"%(?:%|s|\((\w+)\)s)")


@lru_cache(maxsize=2_000)
def numbered(statement: str) -> tuple[bytes, tuple[str, ...]]:
    """The statement with `%s` and `%(name)s` replaced by `$1`, `$2` …, and the names in that order."""
    names: dict[str, int] = {}
    count = 0

    def mark(found: re.Match[str]) -> str:
        nonlocal count
        if found[0] == "%%":
            return "%"
        if found[1] is None:
            count += 1
            return f"${count}"
        return f"${names.setdefault(found[1], len(names) + 1)}"

    return _MARK.sub(mark, statement).encode(), tuple(names)
