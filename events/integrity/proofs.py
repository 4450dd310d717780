"""Proof that one event is in a seal, without any other event."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from events import errors, store
from events.integrity import merkle, seals, stored_rows
from events.integrity.seals import Seal
from events.integrity.stored_rows import StoredRow


class Proof(msgspec.Struct, frozen=True):
    """Proof that one event is in a seal: the event, its index, and the sibling hashes up to the root.

    `before` is the chain hash of the version before, which the event's own hash needs; None for the first of a stream.
    """

    seal: int
    index: int
    event: StoredRow
    before: bytes | None
    path: list[bytes]


BEFORE = "select hash from events_event where stream = %s and version = %s"


def prove(position: int, read: Callable[[int, int], Iterator[list[StoredRow]]] | None = None) -> Proof:
    """Proof of one event. Raises `InvalidEvent` when there is no such event or no seal covers it yet.

    `read` returns the rows in (after, upto]; `archive.reader.rows` includes archived ones.
    """
    read = read or stored_rows.read
    event = next((found for chunk in read(position - 1, position) for found in chunk), None)
    if event is None:
        raise errors.InvalidEvent(f"There is no event at position {position}.")
    covering = seals.seal_of(position)
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


def check(proved: Proof, against: Seal) -> bool:
    """True when this seal covers exactly these bytes of the event. Needs only the proof and the seal."""
    event = proved.event
    computed = merkle.root_of_path(event.leaf(), proved.index, against.count, proved.path)
    return (
        proved.seal == against.number
        and against.hash == against.computed_hash()
        and event.hash == event.link(proved.before)
        and (event.version == 1) == (proved.before is None)
        and computed == against.root
    )
