"""Exports: events, seals and proofs as JSON lines."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

import msgspec

from events import errors
from events.integrity.proofs import Proof
from events.integrity.seals import Seal
from events.integrity.stored_rows import StoredRow


def open_file(path: Path, mode: str) -> IO[bytes]:
    """Open a file of JSON lines, compressed when its name ends in .gz."""
    if path.suffix == ".gz":
        return cast(IO[bytes], gzip.open(path, mode))
    return cast(IO[bytes], path.open(mode))


def line(record: StoredRow | Seal | Proof) -> bytes:
    """A record as one line of JSON."""
    return msgspec.json.encode(record) + b"\n"


def read_lines(path: Path, kind: type[Any]) -> Iterator[Any]:
    """The records of an export. Raises `InvalidEvent` naming the first line that is no record."""
    decoder = msgspec.json.Decoder(kind)
    with open_file(path, "rb") as opened:
        for number, text in enumerate(opened, start=1):
            try:
                yield decoder.decode(text)
            except (msgspec.MsgspecError, ValueError) as error:
                raise errors.InvalidEvent(f"{path} line {number}: {error}") from error
