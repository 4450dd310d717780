"""Keys of subjects: made, cached in memory, and looked up for one batch of events.

They are in `events_subject_key`, wrapped by a master key (`master_keys`). An event in its subject's own stream is
encrypted with the subject's key itself, one in another stream (a submission under its form's subject) with a leaf of
the subject's tree (`key_tree`): so a form has one key for a million submissions, and one of them can still be erased.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from events import errors
from events.privacy import key_tree, master_keys

OWN: Final = 32  # bytes of a subject's own key, before its tree

# One row at least, for the generation; those of subjects that nobody knows have a null.
KEYS: Final = """
select s.generation, k.subject, k.key_id, k.secret
  from events_shredding s left join events_subject_key k on k.subject = any(%s)
"""

# The same for who writes: those that have no key get the one offered.
MAKE: Final = "select * from events_keys(%s::text[], %s, %s::bytea[])"

# For statements that read events: how many erasures their snapshot has seen.
GENERATION: Final = "(select generation from events_shredding)"


class Key:
    """A subject's key: its own, and the tree for what is kept in other streams."""

    __slots__ = ("names", "nodes", "own")

    def __init__(self, secret: bytes) -> None:
        self.names = secret[:OWN]
        self.own = AESGCM(self.names)
        self.nodes = key_tree.unpack(secret[OWN:])

    def of(self, subject: str, stream: str) -> AESGCM | None:
        """The cipher for events of a stream; None when that stream was erased alone."""
        if subject == stream:
            return self.own
        leaf = key_tree.leaf(self.nodes, key_tree.path(stream, self.names))
        return AESGCM(leaf) if leaf else None


def new_secret() -> bytes:
    return os.urandom(OWN) + key_tree.pack(key_tree.plant())


def offer(subjects: Sequence[str]) -> tuple[Sequence[str], str, list[bytes]]:
    """The parameters of `MAKE`: a key for each, in case it has none."""
    return subjects, master_keys.current(), [master_keys.wrap(subject, new_secret())[1] for subject in subjects]


# -- keys in memory -------------------------------------------------------------------------------------------------


class Cache:
    """Keys used lately, of one generation of erasures. Bounded, for all threads. What is erased is not remembered."""

    def __init__(self, size: int = 10_000) -> None:
        self.size, self.generation = size, -1
        self._tried: set[str] = set()
        self._proven: set[tuple[str, bytes]] = set()
        self._keys: OrderedDict[str, Key] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._keys)

    def get(self, subjects: Iterable[str], generation: int | None) -> dict[str, Key]:
        """Those of the subjects that are known. With a generation: to a reader who has seen so many erasures; keys of
        another one are let go, for somebody was erased since, or an erasure was rolled back.
        """
        found = {}
        with self._lock:
            self._reach(generation)
            for subject in subjects:
                if subject in self._keys:
                    self._keys.move_to_end(subject)
                    found[subject] = self._keys[subject]
        return found

    def is_first(self, subject: str) -> bool:
        """Is this the first attempt to give the subject of a new stream its key, unseen? The second one looks."""
        with self._lock:
            if len(self._tried) >= self.size:
                self._tried.clear()
            first = subject not in self._tried
            self._tried.add(subject)
            return first

    def is_proven(self, key_id: str, master_key: bytes) -> bool:
        """Did this master key open what the database holds under its id? See `master_keys.prove`."""
        return (key_id, master_key) in self._proven

    def prove(self, key_id: str, master_key: bytes) -> None:
        self._proven.add((key_id, master_key))

    def put(self, keys: Mapping[str, Key], generation: int) -> None:
        """Remember keys that were read in this generation."""
        with self._lock:
            self._reach(generation)
            self._keys |= keys
            while len(self._keys) > self.size:
                self._keys.popitem(last=False)

    def _reach(self, generation: int | None) -> None:
        if generation is not None and generation != self.generation:
            self._keys.clear()
            self.generation = generation

    def clear(self) -> None:
        with self._lock:
            self._keys.clear()
            self._proven = set()


CACHE: Final = Cache()


class BatchKeys:
    """The keys that one batch needs: from the cache, and from the rows of `KEYS` for those it lacks."""

    def __init__(self, generation: int | None = None) -> None:
        self._generation = generation
        self._wanted: set[str] = set()
        self._keys: dict[str, Key | None] = {}
        self._unopened: dict[str, errors.MasterKeyMissing] = {}

    @property
    def missing(self) -> list[str]:
        """Subjects to ask for with `KEYS`. What is wanted is settled by then."""
        if not self._wanted:
            return []
        self._keys |= CACHE.get(self._wanted - self._keys.keys(), self._generation)
        return sorted(self._wanted - self._keys.keys() - self._unopened.keys())

    def learn(self, rows: Sequence[Sequence[Any]], once_committed: Callable[[Callable[[], None]], Any]) -> None:
        """Take the rows of `KEYS` or `MAKE` for all that is missing.

        A key that no master key opens fails only what needs it: the error is raised there.

        They are remembered by what is given to `once_committed`: a key that was made in a transaction that is rolled
        back was never there, and whoever wrote under it would write what nobody can read.
        """
        living = {}
        for _, subject, key_id, wrapped in rows:
            if wrapped is not None:
                try:
                    living[subject] = Key(master_keys.unwrap(subject, key_id, bytes(wrapped)))
                except errors.MasterKeyMissing as error:
                    self._unopened[subject] = error
        once_committed(partial(CACHE.put, living, rows[0][0]))
        known = (row[1] for row in rows if row[1] is not None)
        self._keys |= {subject: living.get(subject) for subject in known if subject not in self._unopened}

    def _cipher(self, subject: str, stream: str) -> AESGCM | None:
        """The cipher for a stream's data of this subject; None when it was erased. Raises `MasterKeyMissing`."""
        if subject in self._unopened:
            raise self._unopened[subject]
        key = self._keys.get(subject)
        return key.of(subject, stream) if key is not None else None
