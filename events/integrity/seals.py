"""Seals: what was in the log, fixed so that nobody can change it later without being found out.

Every stream has a hash chain, written with its events. A *seal* goes over the whole log: for a range of positions
(after, upto] the Merkle root of its events, chained to the seal before. It is written when nothing in its range can
appear any more (`head.safe`), so no writer waits for it. Whoever kept the hash of one seal elsewhere can prove
everything up to it; docs/integrity.md gives every byte, so that another program can.

`events.integrity.verify` checks. Nothing here trusts the database's functions: rows are read raw and hashed by Python.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import struct
import uuid
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Final, cast

import msgspec
from django.db import transaction

from events import errors, head, store
from events.integrity import merkle

SEAL_SIZE: Final = 100_000  # positions in one seal at most
CHUNK: Final = 5_000  # rows in memory at a time
PRINT: Final = 8  # bytes of each leaf kept in its seal, to name a row that does not fit
NOTHING_BEFORE: Final = bytes(32)
POSTGRES_EPOCH: Final = 946_684_800_000_000  # in microseconds since 1970: 2000-01-01, from where PostgreSQL counts
# `-infinity` and `infinity`, which only a hand in the database writes, as PostgreSQL counts them.
NEVER: Final = -(2**63)
FOREVER: Final = 2**63 - 1


# -- canonical forms ------------------------------------------------------------------------------------------------


class Row(msgspec.Struct, frozen=True):
    """An event exactly as it is stored, and a line of an export. Bytes are base64 in JSON.

    data, metadata   the database's text of the JSON, which is what was hashed
    recorded_at      microseconds since 1970-01-01T00:00:00Z; `NEVER` or `FOREVER` where it is infinite
    """

    position: int
    stream: str
    version: int
    type: str
    schema_version: int
    data: str
    event_id: str
    recorded_at: int
    actor: str
    reason: str | None
    correlation_id: str | None
    causation_id: str | None
    metadata: str
    hash: bytes

    def digest(self) -> bytes:
        """What the event contributes to its stream's chain: `events/sql/digest.function.sql`, once more."""
        reason = "-" if self.reason is None else f"{len(self.reason)}:{self.reason}"
        is_finite = self.recorded_at not in (NEVER, FOREVER)
        instant = struct.pack(">q", self.recorded_at - POSTGRES_EPOCH * is_finite)
        return hashlib.sha256(
            instant
            + f"{len(self.stream)}:{self.stream}{len(self.type)}:{self.type}{self.schema_version}:{self.event_id}"
            f":{len(self.actor)}:{self.actor}{reason}"
            f":{self.correlation_id or '-'}:{self.causation_id or '-'}"
            f":{len(self.metadata)}:{self.metadata}{self.data}".encode()
        ).digest()

    def link(self, before: bytes | None) -> bytes:
        """What `hash` must be after the version `before`; None for the first of the stream."""
        return link(before, self.digest())

    def leaf(self) -> bytes:
        return leaf(self.position, self.stream, self.version, self.hash)


def link(before: bytes | None, digest: bytes) -> bytes:
    """The next hash of a stream's chain."""
    return digest if before is None else hashlib.sha256(before + digest).digest()


def leaf(position: int, stream: str, version: int, link: bytes) -> bytes:
    """An event's leaf in the tree of its seal."""
    return merkle.leaf_hash(struct.pack(">q", position) + stream.encode() + struct.pack(">q", version) + link)


class Seal(msgspec.Struct, frozen=True, dict=True):
    """A sealed range, and a line of an export.

    after, upto   positions p with after < p <= upto
    count, root   how many events there are, and the Merkle root of their leaves in the order of positions
    previous      `hash` of the seal before; 32 zero bytes in the first
    positions     which positions there are, as PostgreSQL writes an int8multirange
    prints        the first 8 bytes of each leaf
    hash          of all of this
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
        """`positions` as (first, one past the last)."""
        return [(int(low), int(high)) for low, high in re.findall(r"\[(\d+),(\d+)\)", self.positions)]

    @cached_property
    def _ranks(self) -> tuple[list[int], list[int]]:
        """Where each run begins, and how many positions came before it."""
        starts, ranks, rank = [], [], 0
        for low, high in self.runs:
            starts.append(low)
            ranks.append(rank)
            rank += high - low
        return starts, ranks

    def rank(self, position: int) -> int | None:
        """The index of a position's leaf, None when the seal holds no such event."""
        starts, ranks = self._ranks
        run = bisect_right(starts, position) - 1
        if run < 0 or position >= self.runs[run][1]:
            return None
        return ranks[run] + position - starts[run]

    def print_at(self, rank: int) -> bytes:
        return self.prints[rank * PRINT : (rank + 1) * PRINT]

    def every_position(self) -> Iterator[int]:
        return (position for low, high in self.runs for position in range(low, high))


class Builder:
    """Makes what a seal says of its events, fed in the order of positions."""

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


# -- sealing --------------------------------------------------------------------------------------------------------

# The lock is the transaction's: a sealer that dies leaves nothing behind, and the next goes on from the last seal.
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


def seal(size: int = SEAL_SIZE, told: Callable[[Seal], None] | None = None) -> int:
    """Seal everything up to the head; returns how many seals that took. `told` hears of each.

    Each seal is a transaction of its own. While another sealer is at work this one leaves it to that.
    """
    made = 0
    while (sealed := seal_next(size)) is not None:
        made += 1
        if told is not None:
            told(sealed)
    return made


def seal_next(size: int = SEAL_SIZE) -> Seal | None:
    """Write the next seal: 1 be the only sealer  2 go on from the last seal  3 read the head, then what is below it
    4 write. None when nothing new is below the head, or another sealer is at work.
    """
    with transaction.atomic():
        if not store.query(TRY_LOCK)[0][0]:
            return None
        number, after, previous = next(iter(store.query(LAST)), (0, 0, NOTHING_BEFORE))
        upto = min(head.safe(), after + size)
        built = _build(after, upto) if upto > after else Builder()
        if not built.tree.size and upto < after + size:
            return None  # a range of nothing but rolled back positions is sealed only when it is full
        (now, epoch) = store.query(NOW)[0]
        root, count = built.tree.root(), built.tree.size
        made = Seal(number + 1, epoch, after, upto, count, now, root, previous, built.positions, built.prints)
        made = msgspec.structs.replace(made, hash=made.computed_hash())
        values = (made.number, made.epoch, after, upto, made.count)
        store.query(INSERT, (*values, made.root, previous, made.positions, made.prints, made.hash))
        return made


def _build(after: int, upto: int) -> Builder:
    built = Builder()
    while links := store.query(LINKS, (after, upto, CHUNK)):
        for position, stream, version, link in links:
            built.add(position, leaf(position, stream, version, link))
        after = links[-1][0]
    return built


# -- reading --------------------------------------------------------------------------------------------------------

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

COLUMNS: Final = f"""position, stream, version, type, schema_version, data::text, event_id::text,
       case when recorded_at = '-infinity' then {NEVER}
            when recorded_at > '294000-01-01 00:00Z' then {FOREVER}
            else (extract(epoch from recorded_at) * 1000000)::bigint end,
       actor, reason, correlation_id::text, causation_id::text, metadata::text, hash"""

ROWS = f"select {COLUMNS} from events_event where position > %s and position <= %s order by position limit %s"  # noqa: S608


def every_seal(after: int = 0) -> Iterator[Seal]:
    """All seals with a number above `after`, in order, a few at a time."""
    while found := store.query(SEALS, (after,)):
        yield from (Seal(*values) for values in found)
        after = found[-1][0]


def seal_of(position: int) -> Seal | None:
    """The seal that covers a position, None when it is not sealed yet."""
    found = next((Seal(*values) for values in store.query(SEAL_OF, (position,))), None)
    return found if found is not None and found.after < position else None


def rows(after: int, upto: int) -> Iterator[list[Row]]:
    """The log as it is stored, in chunks, in the order of positions; no transaction is held between chunks."""
    while found := store.query(ROWS, (after, upto, CHUNK)):
        yield [Row(*values) for values in found]
        after = found[-1][0]


# -- export ---------------------------------------------------------------------------------------------------------


def open_file(path: Path, mode: str) -> IO[bytes]:
    """A file of lines, compressed when it is called *.gz."""
    if path.suffix == ".gz":
        return cast(IO[bytes], gzip.open(path, mode))
    return cast(IO[bytes], path.open(mode))


def line(record: Row | Seal | Proof) -> bytes:
    return msgspec.json.encode(record) + b"\n"


def read_lines(path: Path, kind: type[Any]) -> Iterator[Any]:
    """The records of an export; raises `InvalidEvent` naming the line that is none."""
    decoder = msgspec.json.Decoder(kind)
    with open_file(path, "rb") as opened:
        for number, text in enumerate(opened, start=1):
            try:
                yield decoder.decode(text)
            except (msgspec.MsgspecError, ValueError) as error:
                raise errors.InvalidEvent(f"{path} line {number}: {error}") from error


# -- proofs ---------------------------------------------------------------------------------------------------------


class Proof(msgspec.Struct, frozen=True):
    """That one event is in a seal, without any other event: the event, its place, and the siblings up to the root.

    `before` is the link of the version before it, which the chain needs; None for the first of a stream.
    """

    seal: int
    index: int
    event: Row
    before: bytes | None
    path: list[bytes]


BEFORE = "select hash from events_event where stream = %s and version = %s"


def proof(position: int, read: Callable[[int, int], Iterator[list[Row]]] | None = None) -> Proof:
    """Prove one event. Raises `InvalidEvent` when there is no such event or no seal covers it yet.

    `read` gives the rows; that of `archives` knows archived ones too.
    """
    read = read or rows
    event = next((found for chunk in read(position - 1, position) for found in chunk), None)
    if event is None:
        raise errors.InvalidEvent(f"There is no event at position {position}.")
    covering = seal_of(position)
    if covering is None:
        raise errors.InvalidEvent(f"Position {position} is not sealed yet.")
    index = -1
    leaves: list[bytes] = []
    for chunk in read(covering.after, covering.upto):
        for row in chunk:
            index = len(leaves) if row.position == position else index
            leaves.append(row.leaf())
    before = store.query(BEFORE, (event.stream, event.version - 1))
    return Proof(covering.number, index, event, before[0][0] if before else None, merkle.path(leaves, index))


def check_proof(proved: Proof, against: Seal) -> bool:
    """Is the event, to the last byte, what this seal was made over? Needs nothing but the two."""
    event = proved.event
    climbed = merkle.climb(event.leaf(), proved.index, against.count, proved.path)
    return (
        proved.seal == against.number
        and against.hash == against.computed_hash()
        and event.hash == event.link(proved.before)
        and (event.version == 1) == (proved.before is None)
        and climbed == against.root
    )


SEALED_AT = "select sealed_at from events_seal where number = %s"


def sealed_at(number: int) -> datetime | None:
    """When a seal was made, None when there is no such seal."""
    found = store.query(SEALED_AT, (number,))
    return found[0][0] if found else None


def last() -> Sequence[Any] | None:
    """Number, last position and hash of the newest seal."""
    return next(iter(store.query(LAST)), None)
