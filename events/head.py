"""The safe head, up to which a reader misses no event, and the sessions that hold it back.

Three statements, in this order, each with a snapshot of its own (READ COMMITTED, no surrounding REPEATABLE READ):

    1  S := the sequence's last value
    2  F := the lowest floor published by a transaction still open; H := the last row seen at or below least(S, F)
    3  read positions up to H

Let p <= least(S, F) have been drawn by transaction T. Draws only go up, so p <= S means p was drawn before 1. T
published its floor f < p before drawing, hence before 1. Had T still been open at 2, F <= f < p, a contradiction. So T
had ended before 2; PostgreSQL makes rows visible before it drops locks, and 3 takes its snapshot later: T's rows are
seen. Nothing at or below the head can appear any more.

Why H and not least(S, F): a crash can set the sequence back over positions of transactions that were rolled back,
because only a commit waits until the sequence's step is on disk. A visible row was committed, so all positions at or
below its own were drawn, are on disk, and are never drawn again. Readers pass a hole at the end of the log with the
next row.

On a standby none of this is known: it has no locks of open appends, and its sequence may be ahead. There `known` is the
limit, the highest checkpoint of a subscription. A subscription read up to a head H of the primary, so every event at or
below H was committed before the checkpoint was, and a standby replays commits in their order.
"""

from __future__ import annotations

import re
from datetime import datetime

import msgspec

from events import store
from events.db import primary, replica

LAST_SQL = "select coalesce(pg_sequence_last_value('events_position_seq'), 0)"

# Steps 1 and 2 in one round trip; events/sql/head.function.sql.
HEAD_SQL = "select o_last, o_safe from events_head()"

# Without locks and on every server; events/sql/known_head.function.sql.
KNOWN_SQL = "select events_known_head()"

# With the epoch of the same server: a caller may have a connection to another one than it knows of.
STAMP_SQL = "select (select epoch::text from events_epoch), o_safe from events_head()"
KNOWN_STAMP_SQL = "select (select epoch::text from events_epoch), events_known_head()"

EPOCH_SQL = "select events_current_epoch()::text"

LINEAGE_SQL = "select epoch::text, upto from events_epoch_history order by ended_at desc limit 1000"

# pg_locks shows the lock of a prepared transaction without a pid, under '-1/' and its number.
BLAME_SQL = """
select ((l.classid::bigint & 65535) << 32) | l.objid::bigint, l.pid, coalesce(a.usename, p.owner), a.application_name,
       a.client_addr::text, a.state, coalesce(a.xact_start, p.prepared), a.query,
       extract(epoch from clock_timestamp() - coalesce(a.xact_start, p.prepared))::float, p.gid, a.state_change,
       case when l.pid is not null then pg_blocking_pids(l.pid) else '{}' end
  from pg_locks l
  left join pg_stat_activity a on a.pid = l.pid
  left join pg_prepared_xacts p on l.pid is null and l.virtualtransaction = '-1/' || p.transaction
 where l.locktype = 'advisory' and l.objsubid = 1 and (l.classid::bigint >> 16) = 17779
   and l.database = (select oid from pg_database where datname = current_database())
 order by 1, 7 limit 100
"""


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """A session whose open append holds the head back.

    pid        None for a prepared transaction, which has a `gid`
    since      start of its transaction, or time of its preparation; `state_since`: of its present state
    query      its last statement; may contain values, which `doing` does not
    waits_for  process ids of sessions whose locks it waits for
    """

    floor: int
    pid: int | None
    user: str | None
    application: str | None
    address: str | None
    state: str | None
    since: datetime | None
    query: str | None
    seconds: float | None
    gid: str | None = None
    state_since: datetime | None = None
    waits_for: list[int] = []

    @property
    def doing(self) -> str | None:
        """The last statement without its values."""
        return without_values(self.query) if self.query else None


# Strings in every notation, also one that is cut off at the end, and separate numbers.
_VALUES = re.compile(
    r"""[eE]'(?:[^'\\]|\\.|'')*(?:'|$)
      | '(?:[^']|'')*(?:'|$)
      | \$(\w*)\$.*?(?:\$\1\$|$)
      | (?<![\w$.])\d+(?:\.\d+)?\b""",
    re.VERBOSE | re.DOTALL,
)


def without_values(statement: str) -> str:
    """SQL that may be shown to people: without the values, which statements of Django's connections contain."""
    return _VALUES.sub("…", statement)


def last() -> int:
    """The last position drawn, committed or not."""
    value: int = store.query(LAST_SQL)[0][0]
    return value


def safe() -> int:
    """The head: the position at or below which no event can still appear; 0 in an empty log.

    It is the position of an event, and no position at or below it is issued again. Read it *before* the rows that it
    limits. Where a standby is read (`events.db.replica`), it is what is known there.
    """
    if replica.alias() == replica.ALIAS:
        return known()
    value: int = store.query(HEAD_SQL)[0][1]
    return value


def stamp() -> tuple[str, int]:
    """The epoch and the head of the server that this thread's next statements read; see `safe`."""
    found = store.query(KNOWN_STAMP_SQL if replica.alias() == replica.ALIAS else STAMP_SQL)
    epoch, position = found[0]
    return epoch, position


NEWEST_SQL = "select position from events_event order by position desc limit 1"


def newest() -> int:
    """The position of the last committed event, which may still be held back; 0 in an empty log."""
    found = store.query(NEWEST_SQL)
    return found[0][0] if found else 0


def epoch() -> str:
    """The id of the history that positions belong to.

    The database draws a new one when positions may be issued again: after a restore, a promotion or a point-in-time
    recovery (`events/sql/current_epoch.function.sql`).
    """
    value: str = store.query(EPOCH_SQL)[0][0]
    primary.note(value)
    return value


def known() -> int:
    """A position at or below the head, which a standby knows too: up to there the log is complete on this server."""
    value: int = store.query(KNOWN_SQL)[0][0]
    return value


def lineage() -> dict[str, int]:
    """The earlier epochs of this log, each with the last position that it shares with the log of today.

    A reader of such an epoch that has not read further continues as a reader of the current one.
    """
    return dict(store.query(LINEAGE_SQL))


def holders() -> list[Holder]:
    """Sessions with an open append, starting with the one that holds the head back."""
    names = Holder.__struct_fields__
    return [Holder(**dict(zip(names, row, strict=True))) for row in store.query(BLAME_SQL)]
