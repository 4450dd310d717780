"""SQL that Django cannot express: one database object per file, each named by exactly one migration."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent


def read(name: str) -> str:
    """The text of one file of this folder."""
    return (HERE / name).read_text(encoding="utf-8")
