"""DDL that Django cannot express: one database object per file, each file named by exactly one migration."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent


def read(name: str) -> str:
    """The text of one file of this folder, for `RunSQL`, which executes it without parameters, so `%` stays `%`."""
    return (HERE / name).read_text(encoding="utf-8")
