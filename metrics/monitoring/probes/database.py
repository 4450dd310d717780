"""Probe of PostgreSQL: connections, locks, old transactions, and its statistics.

A role without `pg_read_all_stats` sees only its own sessions, so values that depend on others are missing then, not 0;
`manage.py doctor` names the privilege.
"""

from __future__ import annotations

import time
from typing import Final

from events import store
from metrics.monitoring.metric_types import SLOT_SECONDS
from metrics.monitoring.probes import differences
from metrics.monitoring.probes.readings import Readings, every

GIB: Final = 2**30

STATISTICS = """
select pg_has_role('pg_read_all_stats', 'usage'), xact_commit + xact_rollback, deadlocks, blks_hit, blks_read
  from pg_stat_database where datname = current_database()
"""
SESSIONS = """
select 100.0 * count(*) / (current_setting('max_connections')::int
           - current_setting('superuser_reserved_connections')::int),
       extract(epoch from clock_timestamp() - min(xact_start)
           filter (where backend_type = 'client backend' and pid <> pg_backend_pid()))::float,
       count(*) filter (where wait_event_type = 'Lock')
  from pg_stat_activity where backend_type in ('client backend', 'parallel worker') or wait_event_type = 'Lock'
"""
SIZES = """
select pg_database_size(oid)::float, age(datfrozenxid) from pg_database where datname = current_database()
"""


def read(slot: int) -> Readings:
    """The figures of the database; the statistics of this slot are differences."""
    start = time.perf_counter()
    store.query("select 1")
    latency = time.perf_counter() - start
    sees_all, transactions, deadlocks, hit, loaded = store.query(STATISTICS)[0]
    grown = differences.since_last_slot(
        slot, {"db.transactions": transactions, "db.deadlocks": deadlocks, "db.hit": hit, "db.read": loaded}
    )
    blocks = grown.get("db.hit", 0) + grown.get("db.read", 0)
    found: Readings = {
        ("db.latency", ""): latency,
        ("db.deadlocks", ""): grown.get("db.deadlocks"),
        ("db.commits", ""): grown["db.transactions"] / SLOT_SECONDS if "db.transactions" in grown else None,
        ("db.cache_hit", ""): 100 * grown.get("db.hit", 0) / blocks if blocks else None,
        **_sizes(slot),
    }
    if sees_all:
        share, oldest, blocked = store.query(SESSIONS)[0]
        found |= {
            ("db.connections", ""): float(share),
            ("db.oldest_transaction", ""): oldest or 0.0,
            ("db.blocked", ""): blocked,
        }
    return found


@every(60)
def _sizes(_slot: int) -> Readings:
    size, age = store.query(SIZES)[0]
    return {("db.size", ""): size / GIB, ("db.xid_age", ""): age}
