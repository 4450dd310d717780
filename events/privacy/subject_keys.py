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

# Returns at least one row, for the generation; without any known subject its other columns are null.
KEYS: Final = """
select s.generation, k.subject, k.key_id, k.secret
  from events_shredding s left join events_subject_key k on k.subject = any(%s)
"""

# The same for writers: subjects without a key get the one offered.
MAKE: Final = "select * from events_keys(%s::text[], %s, %s::bytea[])"

# For statements that read events: the number of erasures that their snapshot has seen.
GENERATION: Final = "(select generation from events_shredding)"


class Key:
    """A subject's key: one for its own stream, and a tree of keys for its data in other streams."""

    __slots__ = ("names", "nodes", "own")

    def __init__(self, secret: bytes) -> None:
        self.names = secret[:OWN]
        self.own = AESGCM(self.names)
        self.nodes = key_tree.unpack(secret[OWN:])

    def of(self, subject: str, stream: str) -> AESGCM | None:
        """The cipher for a stream; None when that stream was erased on its own."""
        if subject == stream:
            return self.own
        leaf = key_tree.leaf(self.nodes, key_tree.path(stream, self.names))
        return AESGCM(leaf) if leaf else None


def new_secret() -> bytes:
    """A random key of a subject, with a new tree."""
    return os.urandom(OWN) + key_tree.pack(key_tree.new_tree())


def offer(subjects: Sequence[str]) -> tuple[Sequence[str], str, list[bytes]]:
    """The parameters of `MAKE`: a new key for each subject, used where it has none."""
    return subjects, master_keys.current(), [master_keys.wrap(subject, new_secret())[1] for subject in subjects]


# -- keys in memory ---------------------------------------------------------------------------------------------------


class Cache:
    """Recently used keys of one generation of erasures. Bounded, thread-safe; erased subjects are not cached."""

    def __init__(self, size: int = 10_000) -> None:
        self.size, self.generation = size, -1
        self._tried: set[str] = set()
        self._proven: set[tuple[str, bytes]] = set()
        self._keys: OrderedDict[str, Key] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._keys)

    def get(self, subjects: Iterable[str], generation: int | None) -> dict[str, Key]:
        """The cached keys of these subjects.

        `generation` is the number of erasures that the reader's snapshot has seen. Keys of another generation are
        dropped: a subject was erased since, or an erasure was rolled back.
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
        """True on the first attempt to make a key for the subject of a new stream. Later attempts query first."""
        with self._lock:
            if len(self._tried) >= self.size:
                self._tried.clear()
            first = subject not in self._tried
            self._tried.add(subject)
            return first

    def is_proven(self, key_id: str, master_key: bytes) -> bool:
        """True when this master key has opened its witness in the database; see `key_witness.prove`."""
        return (key_id, master_key) in self._proven

    def prove(self, key_id: str, master_key: bytes) -> None:
        self._proven.add((key_id, master_key))

    def put(self, keys: Mapping[str, Key], generation: int) -> None:
        """Cache keys that were read in this generation."""
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
    """The keys that one batch needs: from the cache, else from the rows of `KEYS`."""

    def __init__(self, generation: int | None = None) -> None:
        self._generation = generation
        self._wanted: set[str] = set()
        self._keys: dict[str, Key | None] = {}
        self._failed: dict[str, errors.MasterKeyMissing] = {}

    @property
    def missing(self) -> list[str]:
        """Subjects to query with `KEYS`. Read it after all events were added."""
        if not self._wanted:
            return []
        self._keys |= CACHE.get(self._wanted - self._keys.keys(), self._generation)
        return sorted(self._wanted - self._keys.keys() - self._failed.keys())

    def learn(self, rows: Sequence[Sequence[Any]], once_committed: Callable[[Callable[[], None]], Any]) -> None:
        """Take the rows of `KEYS` or `MAKE` for all missing subjects.

        A key that no master key unwraps fails only the events that need it: the error is raised there. Keys are cached
        by the function passed to `once_committed`: data written under a key whose transaction was rolled back could
        never be read.
        """
        usable = {}
        for _, subject, key_id, wrapped in rows:
            if wrapped is not None:
                try:
                    usable[subject] = Key(master_keys.unwrap(subject, key_id, bytes(wrapped)))
                except errors.MasterKeyMissing as error:
                    self._failed[subject] = error
        once_committed(partial(CACHE.put, usable, rows[0][0]))
        known = (row[1] for row in rows if row[1] is not None)
        self._keys |= {subject: usable.get(subject) for subject in known if subject not in self._failed}

    def _cipher(self, subject: str, stream: str) -> AESGCM | None:
        """The cipher for this subject's data in a stream; None when it was erased. Raises `MasterKeyMissing`."""
        if subject in self._failed:
            raise self._failed[subject]
        key = self._keys.get(subject)
        return key.of(subject, stream) if key is not None else None
