"""Events exactly as stored, and their canonical bytes: digest, chain link and leaf.

Nothing in this module relies on the database's functions: rows are read raw and hashed by Python.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from typing import Final

import msgspec

from events import store
from events.integrity import merkle

CHUNK: Final = 5_000  # rows in memory at a time
POSTGRES_EPOCH: Final = 946_684_800_000_000  # in microseconds since 1970: 2000-01-01, PostgreSQL's zero
# `-infinity` and `infinity` as PostgreSQL counts them; only somebody with direct access to the database writes these.
NEVER: Final = -(2**63)
FOREVER: Final = 2**63 - 1


class StoredRow(msgspec.Struct, frozen=True):
    """An event exactly as it is stored, and a line of an export. Bytes are base64 in JSON.

    data, metadata   the database's text of the JSON: the text that was hashed
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
        """The event's digest in its stream's chain; the same as `events/sql/digest.function.sql`."""
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
        """The value that `hash` must have. `before`: hash of the version before, None for the first of the stream."""
        return link(before, self.digest())

    def leaf(self) -> bytes:
        """The event's leaf in the tree of its seal."""
        return leaf(self.position, self.stream, self.version, self.hash)


def link(before: bytes | None, digest: bytes) -> bytes:
    """The next hash of a stream's chain."""
    return digest if before is None else hashlib.sha256(before + digest).digest()


def leaf(position: int, stream: str, version: int, link: bytes) -> bytes:
    """An event's leaf in the tree of its seal."""
    return merkle.leaf_hash(struct.pack(">q", position) + stream.encode() + struct.pack(">q", version) + link)


COLUMNS: Final = f"""position, stream, version, type, schema_version, data::text, event_id::text,
       case when recorded_at = '-infinity' then {NEVER}
            when recorded_at > '294000-01-01 00:00Z' then {FOREVER}
            else (extract(epoch from recorded_at) * 1000000)::bigint end,
       actor, reason, correlation_id::text, causation_id::text, metadata::text, hash"""

ROWS = f"select {COLUMNS} from events_event where position > %s and position <= %s order by position limit %s"  # noqa: S608


def read(after: int, upto: int) -> Iterator[list[StoredRow]]:
    """Rows with positions in (after, upto], in chunks, in order; no transaction is open between chunks."""
    while found := store.query(ROWS, (after, upto, CHUNK)):
        yield [StoredRow(*values) for values in found]
        after = found[-1][0]
