"""A witness outside the database of what was published, in Valkey and in `DATA_DIR`: it notices restored files.

A dump that is loaded, a promoted standby and a recovery to a point in time have another place, so the database draws a
new epoch by itself (`events/sql/place.function.sql`). A disk snapshot that is put back has the same place. But the log
then lacks the event that the witness names, or has another one at its position: the epoch is changed here.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import redis
from django.conf import settings

from events import store, valkey
from events.db import primary

log = logging.getLogger(__name__)

# The epoch, the last position assigned, and the events at two positions.
LOOK: Final = """
select events_current_epoch()::text, coalesce(pg_sequence_last_value('events_position_seq'), 0),
       (select event_id::text from events_event where position = %s),
       (select event_id::text from events_event where position = %s)
"""
REWOUND: Final = "select events_rewound_epoch(%s::uuid)::text"
DOUBT: Final = """
select (select epoch::text from events_epoch), coalesce(pg_sequence_last_value('events_position_seq'), 0),
       (select event_id::text from events_event where position = %s)
"""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """An event that was published: its position in the history `epoch`, and its id."""

    epoch: str
    position: int
    event_id: str

    def contradicts(self, epoch: str, last: int, event_id: str | None) -> bool:
        """Whether a log of this epoch and last position, with this event at `position`, has lost what was published.

        An event that is missing below the last position may be in an archive file.
        """
        return epoch == self.epoch and (last < self.position or event_id not in {None, self.event_id})


def observe(position: int) -> str:
    """Compare the log with the witness, then make it a witness of `position`; returns the epoch.

    Called by the active relay about once a second. Where the log lacks what was published, it gets a new epoch. Raises
    `NotPrimary` for the log of a former primary, which is no witness.
    """
    primary.require_current()
    epoch, now = "", None
    known: list[Seen | None] = [*recorded()]
    for seen in known or [None]:
        epoch, last, then, now = store.query(LOOK, (seen.position if seen else 0, position))[0]
        if seen and seen.contradicts(epoch, last, then):
            log.error(
                "the log of epoch %s ends at %d and lacks event %s at %d, which was published: "
                "the files of PostgreSQL were put back to an earlier state. It gets a new epoch.",
                *(epoch, last, seen.event_id, seen.position),
            )
            epoch = store.query(REWOUND, (epoch,))[0][0]
    primary.note(epoch)
    if now is not None:
        _record(Seen(epoch=epoch, position=position, event_id=now))
    return epoch


def doubt(run: Callable[[str, Sequence[Any]], Sequence[Sequence[Any]]]) -> Seen | None:
    """Returns the recorded position that the log lacks, or None when it lacks none. Read-only, for `doctor`."""
    for seen in recorded():
        if seen.contradicts(*run(DOUBT, (seen.position,))[0]):
            return seen
    return None


# -- where it is kept -------------------------------------------------------------------------------------------------


def key() -> str:
    return f"{settings.REDIS_PREFIX}:log-witness"


def file() -> Path:
    return Path(settings.DATA_DIR) / "log-witness.json"


def recorded() -> list[Seen]:
    """Returns the records in Valkey and in the file; a place that cannot be read contributes none."""
    found: list[Any] = []
    with contextlib.suppress(redis.RedisError, OSError):
        found.append(valkey.shared_client("cache").get(key()))
    with contextlib.suppress(OSError):
        found.append(file().read_bytes())
    seen = []
    for raw in found:
        with contextlib.suppress(msgspec.DecodeError):
            if raw:
                seen.append(msgspec.json.decode(raw, type=Seen))
    return list(dict.fromkeys(seen))


def _record(seen: Seen) -> None:
    raw = msgspec.json.encode(seen)
    with contextlib.suppress(redis.RedisError, OSError):
        valkey.shared_client("cache").set(key(), raw)
    with contextlib.suppress(OSError):
        new = file().with_suffix(f".{os.getpid()}.new")
        new.write_bytes(raw)
        new.replace(file())
