"""The result of a verification: findings, events that cannot be read, and how much was checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from events import types
from events.archive import reader as archives
from events.integrity.stored_rows import StoredRow

KEPT: Final = 1_000  # findings in memory; the others are counted
READ_TOGETHER: Final = 500  # events decoded at a time
END: Final = (1 << 63) - 1


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A deviation from what was written. `check` names the check that found it:

    chain    the row's contents, its hash or the hash before it was changed
    version  a version is missing or out of order
    seal     the row differs from the one that was sealed: altered, missing or inserted
    head     the stream does not end where its head row says, or the log not where its sequence does
    seals    a seal was altered, removed or replaced
    archive  the file of an archived part differs from what was written
    absent   no partition and no readable archive holds these positions
    """

    check: str
    message: str
    position: int | None = None
    stream: str | None = None
    version: int | None = None
    after: int = 0
    before: int = END
    versions: int = 1

    @property
    def order(self) -> tuple[int, bool]:
        """Sort key: by position, missing rows where they were noticed, rows before seals."""
        noticed = self.before if self.before < END else self.after + 1
        return (noticed if self.position is None else self.position), self.stream is None or self.position is None

    def __str__(self) -> str:
        where = f"position {self.position}" if self.position is not None else f"after position {self.after}"
        record = f", {self.stream} version {self.version}" if self.stream else ""
        return f"{where}{record}, {self.check}: {self.message}"


class UnreadableEntry(msgspec.Struct, frozen=True):
    """An event that this release cannot read; `why` is a code of `types.UNREADABLE`."""

    position: int
    stream: str
    version: int
    why: str

    def __str__(self) -> str:
        return f"position {self.position}, {self.stream} version {self.version}: {types.UNREADABLE.get(self.why)}"


class VerificationReport:
    """The extent of the check, and the findings with the lowest positions."""

    def __init__(self) -> None:
        self.events = self.streams = self.seals = self.total = 0
        self.head = self.sealed_upto = self.unsealed = 0
        self.unlinked = self.partial = self.removed = 0
        self.absent: list[tuple[int, int]] = []
        self.unreadable = 0
        self.unread: list[UnreadableEntry] = []
        self._found: dict[tuple[Any, ...], Finding] = {}

    @property
    def ok(self) -> bool:
        """True when the log is unchanged. An event that cannot be read may still be unchanged."""
        return not self.total

    def decode(self, rows: Sequence[StoredRow]) -> None:
        """Decode these rows and count the events that this release cannot read."""
        for start in range(0, len(rows), READ_TOGETHER):
            for event in archives.events_of(rows[start : start + READ_TOGETHER]):
                if event.unreadable:
                    self.unreadable += 1
                    if len(self.unread) < KEPT:
                        self.unread.append(
                            UnreadableEntry(event.position, event.stream, event.version, event.unreadable)
                        )

    def add(self, finding: Finding) -> None:
        """Add a finding, unless an earlier check reported the same row."""
        row = (finding.position, finding.stream is None and finding.check, finding.stream, finding.version)
        if row in self._found:
            return
        self._found[row] = finding
        self.total += 1
        if len(self._found) > 2 * KEPT:
            kept = sorted(self._found.items(), key=lambda item: item[1].order)[:KEPT]
            self._found = dict(kept)

    def findings(self) -> list[Finding]:
        """The findings in the order of positions."""
        return sorted(self._found.values(), key=lambda finding: finding.order)

    def merge_missing(self) -> None:
        """Merge findings about the same missing row: its seal gives the position, its chain the version."""
        lost = [key for key, found in self._found.items() if found.check == "seal" and found.stream is None]
        for key, gap in list(self._found.items()):
            if gap.stream is None or gap.position is not None:
                continue
            within = [
                at for at in lost if at in self._found and gap.after < (self._found[at].position or 0) < gap.before
            ]
            if len(within) != gap.versions:
                continue
            self._found[key] = msgspec.structs.replace(gap, position=self._found[within[0]].position)
            for at in within:
                del self._found[at]
            self.total -= len(within)

    def to_dict(self) -> dict[str, Any]:
        found = self.findings()
        return {
            "ok": self.ok,
            "events": self.events,
            "head": self.head,
            "seals": self.seals,
            "sealed_upto": self.sealed_upto,
            "unsealed": self.unsealed,
            "unlinked": self.unlinked,
            "removed": self.removed,
            "seals_in_part": self.partial,
            "absent": self.absent,
            "unreadable": self.unreadable,
            "unreadable_events": [msgspec.to_builtins(event) for event in self.unread[:100]],
            "total": self.total,
            "first": str(found[0]) if found else None,
            "findings": [msgspec.to_builtins(finding) for finding in found[:100]],
        }
