"""How far this process knows the log, and which cached values are therefore still current.

The follower of a web process (`realtime.follower`) reports here: `touch` for every event, in order and without a gap,
before its position moves; `confirm` when the store or a beacon has shown that nothing is missing. A cached value
carries `asof`, a safe head read before the value, and the slots of its tags. It may be used while `asof` is at least
`lowest(…)`: then no event that this process knows, and that the value could depend on, is newer than the value.

Each tag has one of 65,536 slots with the position of the newest event that carries it. Tags that share a slot only make
a value look older than it is. *Soft* slots are for values that must be exact; *hard* ones, for erasures, deletions,
restorations and what a layer above declares, also refuse values that may be some seconds old.

A process whose knowledge was not confirmed for `TRUST_SECONDS` is disconnected: it trusts no cached value. So is every
process without a follower, such as a worker or a command.
"""

from __future__ import annotations

import re
import time
import zlib
from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeAlias

from events import types

SLOTS: Final = 65_536
TRUST_SECONDS: Final = 1.2
MAX_PATTERNS: Final = 64
NEVER: Final = float("-inf")
HARD_ACTIONS: Final = (".deleted", ".restored")

Tagger: TypeAlias = Callable[[types.RecordedEvent], Iterable[str]]

# Registered by the layers above: more tags by category, categories whose events are all hard, and event types that
# refuse the values whose names match a pattern.
taggers: Final[dict[str, Tagger]] = {}
hard_categories: Final[set[str]] = set()
patterns_of: Final[dict[str, Callable[[types.RecordedEvent], str]]] = {}


def slot(tag: str) -> int:
    """The slot of a tag."""
    return zlib.crc32(tag.encode()) & (SLOTS - 1)


def slots(tags: Iterable[str]) -> tuple[int, ...]:
    """The slots of several tags, each once."""
    return tuple(sorted({slot(tag) for tag in tags}))


def tags_of(event: types.RecordedEvent) -> tuple[str, ...]:
    """The tags that an event carries: its category, its stream, and those of the category's tagger."""
    tagger = taggers.get(event.category)
    return (event.category, event.stream, *(tagger(event) if tagger else ()))


def is_hard(event: types.RecordedEvent) -> bool:
    """True when the event also refuses values that may be some seconds old."""
    return event.type.endswith(HARD_ACTIONS) or types.erases(event.type) or event.category in hard_categories


def glob(pattern: str) -> re.Pattern[str]:
    """A regular expression for a pattern in which `*` stands for any text.

    It also matches names that continue after the pattern with a colon and more parts.

    Parts between two stars match where they come first and nowhere else (`(?>…)`): otherwise a pattern of many stars
    would take exponential time, in every process.
    """
    first, *middle = (re.escape(part) for part in pattern.split("*"))
    last = f".*{middle.pop()}" if middle else ""
    body = first + "".join(f"(?>.*?{part})" for part in middle) + last
    return re.compile(f"{body}(?::.*)?", re.DOTALL)


class Freshness:
    """The knowledge that one process has of the log. One thread writes, any thread reads; see the module's docstring.

    position       every event up to here was touched
    floor          values as of an earlier position are refused: this process does not know what came after them
    changes        grows with everything that can refuse a value; unchanged means that a checked value still holds
    trusted_until  on the monotonic clock; from then on the process is disconnected
    erased_at      the position of the newest erasure; no value from before it is used
    """

    def __init__(self) -> None:
        self.epoch = ""
        self.position = self.floor = self.changes = self.erased_at = 0
        self.trusted_until = NEVER
        self._soft = array("q", bytes(8 * SLOTS))
        self._hard = array("q", bytes(8 * SLOTS))
        self._patterns: dict[str, tuple[int, re.Pattern[str]]] = {}
        self._newest_pattern = 0
        self._when_erased: list[Callable[[], object]] = []

    # -- written by the follower -------------------------------------------------------------------------------------

    def start(self, epoch: str, position: int) -> None:
        """Begin to follow the log after `position`; values from before an unobserved gap are refused."""
        if epoch != self.epoch:
            self.restart(epoch, position)
        elif position > self.position:
            self.floor = self.position = position
            self.changes += 1

    def restart(self, epoch: str, position: int) -> None:
        """Refuse all values and forget all marks, because the log has another history from here on."""
        self.trusted_until = NEVER
        self.floor = position
        self.epoch = epoch
        self._soft = array("q", bytes(8 * SLOTS))
        self._hard = array("q", bytes(8 * SLOTS))
        self._patterns, self._newest_pattern, self.erased_at = {}, 0, 0
        self.changes += 1
        self.position = position
        self._drop_copies()

    def touch(self, event: types.RecordedEvent) -> None:
        """Mark the slots of an event, and move `position` to it once they are marked."""
        position = event.position
        if position <= self.position:
            return
        marked, hard = [slot(tag) for tag in tags_of(event)], is_hard(event)
        for number in marked:
            self._soft[number] = position
            if hard:
                self._hard[number] = position
        erases = types.erases(event.type)
        if erases:
            self.erased_at = position
        pattern = patterns_of.get(event.type)
        if pattern is not None:
            self._refuse(pattern(event), position)
        self.changes += 1
        self.position = position
        if erases:
            self._drop_copies()

    def advance(self, position: int) -> None:
        """Move to `position`, up to which the log holds no further event."""
        self.position = max(self.position, position)

    def confirm(self, begun: float) -> None:
        """Extend the trust, because a read of the store begun at `begun` found only events that are touched."""
        self.trusted_until = max(self.trusted_until, begun + TRUST_SECONDS)

    def confirm_by_message(self, received: float) -> bool:
        """Like `confirm`, by a message received at `received`; False when the process was disconnected by then.

        Then the message proves nothing: it may have waited for as long as this process did.
        """
        if received >= self.trusted_until:
            return False
        self.confirm(received)
        return True

    def disconnect(self) -> None:
        """Stop trusting cached values, because the follower ends and nobody reports here any more."""
        self.trusted_until = NEVER

    def refuse_all(self) -> None:
        """Refuse every value that was loaded up to now."""
        self.floor = self.position + 1
        self.changes += 1

    def _refuse(self, pattern: str, position: int) -> None:
        """Refuse the values whose names match; beyond `MAX_PATTERNS` patterns refuse all older values instead."""
        if len(self._patterns) >= MAX_PATTERNS:
            self._patterns = {}
            self.floor = max(self.floor, position)
        self._patterns = {**self._patterns, pattern: (position, glob(pattern))}
        self._newest_pattern = position

    # -- read by anybody ---------------------------------------------------------------------------------------------

    def trusted(self, now: float | None = None) -> bool:
        """True while this process may use cached values at all."""
        return (time.monotonic() if now is None else now) < self.trusted_until

    def lowest(self, name: str, marks: Sequence[int], *, exact: bool, reached: int = 0) -> int:
        """The lowest `asof` that a value of this name with these slots must have now.

        `exact`: it reflects every known event; otherwise only the hard ones. `reached`: it also includes the event at
        that position, which the caller has written.
        """
        position = self.position  # before the slots: they then cover at least everything up to it
        lowest = max(self.floor, self.erased_at, self._hard_mark(marks), self._pattern_mark(name))
        if exact and not reached:
            return max(lowest, self._soft_mark(marks))
        if not reached:
            return lowest
        fully = max(lowest, self._soft_mark(marks))
        own = max(reached, fully if exact else lowest)
        return min(fully, own) if position >= reached else own

    def _soft_mark(self, marks: Sequence[int]) -> int:
        soft = self._soft
        return max((soft[number] for number in marks), default=0)

    def _hard_mark(self, marks: Sequence[int]) -> int:
        hard = self._hard
        return max((hard[number] for number in marks), default=0)

    def _pattern_mark(self, name: str) -> int:
        if not self._patterns:
            return 0
        return max((position for position, known in self._patterns.values() if known.fullmatch(name)), default=0)

    # -- erasure -----------------------------------------------------------------------------------------------------

    def when_erased(self, drop: Callable[[], object]) -> None:
        """Have `drop` called after every erasure: copies in memory may contain the erased data."""
        if drop not in self._when_erased:
            self._when_erased.append(drop)

    def _drop_copies(self) -> None:
        for drop in self._when_erased:
            drop()


# That of this process.
LOCAL: Final = Freshness()
