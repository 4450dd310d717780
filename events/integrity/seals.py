"""Seals: Merkle roots over ranges of the log, chained, so that later changes can be proved.

Every stream has a hash chain, written with its events. A *seal* covers the whole log: for a range of positions
(after, upto] the Merkle root of its events, chained to the seal before. It is written when no event can appear in its
range any more (`head.safe`), so no writer waits for it. The hash of one seal, kept elsewhere, proves everything up to
it; docs/integrity.md specifies every byte, so that another program can check.

`events.integrity.verify` checks seals, `proofs` proves single events.
"""

from __future__ import annotations

import hashlib
import re
import struct
import uuid
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any, Final

import msgspec
from django.db import transaction

from events import head, store
from events.integrity import merkle, stored_rows

SEAL_SIZE: Final = 100_000  # positions in one seal at most
PRINT: Final = 8  # bytes of each leaf kept in its seal, to name a row that does not fit
NOTHING_BEFORE: Final = bytes(32)


class Seal(msgspec.Struct, frozen=True, dict=True):
    """The seal of a range of positions, and a line of an export.

    after, upto   positions p with after < p <= upto
    count, root   number of events, and the Merkle root of their leaves in the order of positions
    previous      `hash` of the seal before; 32 zero bytes in the first
    positions     the positions that hold events, as PostgreSQL writes an int8multirange
    prints        the first 8 bytes of each leaf
    hash          of all these fields
    """

    number: int
    epoch: str
    after: int
    upto: int
    count: int
    sealed_at: int
    root: bytes
    previous: bytes
    positions: str
    prints: bytes
    hash: bytes = b""

    def computed_hash(self) -> bytes:
        """The value that `hash` must have."""
        numbers = struct.pack(">qqqq", self.after, self.upto, self.count, self.sealed_at)
        return hashlib.sha256(
            b"\2"
            + struct.pack(">q", self.number)
            + uuid.UUID(self.epoch).bytes
            + numbers
            + self.root
            + self.previous
            + hashlib.sha256(self.positions.encode()).digest()
            + hashlib.sha256(self.prints).digest()
        ).digest()

    @cached_property
    def runs(self) -> list[tuple[int, int]]:
        """`positions` as pairs (first, one past the last)."""
        return [(int(low), int(high)) for low, high in re.findall(r"\[(\d+),(\d+)\)", self.positions)]

    @cached_property
    def _ranks(self) -> tuple[list[int], list[int]]:
        """The first position of each run, and the number of positions before it."""
        starts, ranks, rank = [], [], 0
        for low, high in self.runs:
            starts.append(low)
            ranks.append(rank)
            rank += high - low
        return starts, ranks

    def rank(self, position: int) -> int | None:
        """The index of a position's leaf; None when the seal has no event there."""
        starts, ranks = self._ranks
        run = bisect_right(starts, position) - 1
        if run < 0 or position >= self.runs[run][1]:
            return None
        return ranks[run] + position - starts[run]

    def print_at(self, rank: int) -> bytes:
        return self.prints[rank * PRINT : (rank + 1) * PRINT]

    def every_position(self) -> Iterator[int]:
        return (position for low, high in self.runs for position in range(low, high))


class SealBuilder:
    """Computes root, prints and positions of a seal from its leaves, added in the order of positions."""

    def __init__(self) -> None:
        self.tree, self._prints, self._runs = merkle.Tree(), bytearray(), list[list[int]]()

    def add(self, position: int, leaf: bytes) -> None:
        self.tree.add(leaf)
        self._prints += leaf[:PRINT]
        if self._runs and self._runs[-1][1] == position:
            self._runs[-1][1] = position + 1
        else:
            self._runs.append([position, position + 1])

    @property
    def positions(self) -> str:
        return "{" + ",".join(f"[{low},{high})" for low, high in self._runs) + "}"

    @property
    def prints(self) -> bytes:
        return bytes(self._prints)


# -- sealing ----------------------------------------------------------------------------------------------------------

# A lock of the transaction: when a process dies, nothing is left behind and the next one continues after the last seal.
TRY_LOCK = "select pg_try_advisory_xact_lock(hashtext('events_seal'))"

LAST = "select number, upto, hash from events_seal order by number desc limit 1"

LINKS = """
select position, stream, version, hash from events_event
 where position > %s and position <= %s order by position limit %s
"""

NOW = "select (extract(epoch from now()) * 1000000)::bigint, (select epoch::text from events_epoch)"

INSERT = """
insert into events_seal (number, epoch, after, upto, count, sealed_at, root, previous, positions, prints, hash)
values (%s, %s, %s, %s, %s, now(), %s, %s, %s::int8multirange, %s, %s) returning number
"""


def seal(size: int = SEAL_SIZE, on_seal: Callable[[Seal], None] | None = None) -> int:
    """Seal everything up to the head; returns the number of new seals. `on_seal` is called with each.

    Each seal is a transaction of its own. Returns 0 while another process is sealing.
    """
    made = 0
    while (sealed := seal_next(size)) is not None:
        made += 1
        if on_seal is not None:
            on_seal(sealed)
    return made


def seal_next(size: int = SEAL_SIZE) -> Seal | None:
    """Write the next seal and return it; None when nothing is new below the head or another process is sealing.

    1 take the lock  2 continue after the last seal  3 read the head, then the events up to it  4 write
    """
    with transaction.atomic():
        if not store.query(TRY_LOCK)[0][0]:
            return None
        number, after, previous = next(iter(store.query(LAST)), (0, 0, NOTHING_BEFORE))
        upto = min(head.safe(), after + size)
        built = _build(after, upto) if upto > after else SealBuilder()
        if not built.tree.size and upto < after + size:
            return None  # a range of rolled back positions only is sealed once it is full
        (now, epoch) = store.query(NOW)[0]
        root, count = built.tree.root(), built.tree.size
        made = Seal(number + 1, epoch, after, upto, count, now, root, previous, built.positions, built.prints)
        made = msgspec.structs.replace(made, hash=made.computed_hash())
        values = (made.number, made.epoch, after, upto, made.count)
        store.query(INSERT, (*values, made.root, previous, made.positions, made.prints, made.hash))
        return made


def _build(after: int, upto: int) -> SealBuilder:
    built = SealBuilder()
    while links := store.query(LINKS, (after, upto, stored_rows.CHUNK)):
        for position, stream, version, link in links:
            built.add(position, stored_rows.leaf(position, stream, version, link))
        after = links[-1][0]
    return built


# -- reading ----------------------------------------------------------------------------------------------------------

SEALS = """
select number, epoch::text, after, upto, count, (extract(epoch from sealed_at) * 1000000)::bigint, root, previous,
       positions::text, prints, hash
  from events_seal where number > %s order by number limit 8
"""

SEAL_OF = """
select number, epoch::text, after, upto, count, (extract(epoch from sealed_at) * 1000000)::bigint, root, previous,
       positions::text, prints, hash
  from events_seal where upto >= %s order by upto limit 1
"""


def every_seal(after: int = 0) -> Iterator[Seal]:
    """All seals with a number above `after`, in order, fetched a few at a time."""
    while found := store.query(SEALS, (after,)):
        yield from (Seal(*values) for values in found)
        after = found[-1][0]


def seal_of(position: int) -> Seal | None:
    """The seal that covers a position; None when it is not sealed yet."""
    found = next((Seal(*values) for values in store.query(SEAL_OF, (position,))), None)
    return found if found is not None and found.after < position else None


SEALED_AT = "select sealed_at from events_seal where number = %s"


def sealed_at(number: int) -> datetime | None:
    """The time at which a seal was written; None when there is no such seal."""
    found = store.query(SEALED_AT, (number,))
    return found[0][0] if found else None


def last() -> Sequence[Any] | None:
    """Number, last position and hash of the newest seal; None when there is none."""
    return next(iter(store.query(LAST)), None)
