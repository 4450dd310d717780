"""Builds an index of the partitioned log while it is written, for migrations.

    1  parent      the index `on only` the parent, from a file under `sql/`: invalid until all partitions have theirs
    2  partitions  for each partition an index of its own, built concurrently
    3  attach      it becomes a part of the parent's index, which is valid once it has them all

Each step is skipped where it is done, so an interrupted migration is repeated. A partition that is created in the
meantime gets the index from its parent.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from django.db import connection

from events import store
from events.db import driver_errors

LOCK_TIMEOUT: Final = "2s"  # writers of the log wait no longer than this
ATTEMPTS: Final = 30
PAUSE: Final = 1.0

DEFINITION: Final = "select substring(pg_get_indexdef(to_regclass(%s)) from ' USING .*')"

# Partitions without a part of this index: their names, and the name and validity of the index that `build` makes.
LACKING: Final = """
select quote_ident(c.relname), quote_ident(c.relname || %(suffix)s), x.indisvalid
  from pg_inherits p join pg_class c on c.oid = p.inhrelid
  left join pg_index x on x.indexrelid = to_regclass(quote_ident(c.relname || %(suffix)s))
 where p.inhparent = 'events_event'::regclass and not exists (
       select from pg_inherits i join pg_index part on part.indexrelid = i.inhrelid
        where i.inhparent = to_regclass(%(index)s) and part.indrelid = c.oid)
 order by c.relname
"""


def build(index: str, suffix: str) -> None:
    """Steps 2 and 3 for the parent's index; the partitions' indexes are called like the partition with `suffix`."""
    definition = store.query(DEFINITION, (index,))[0][0]
    for table, name, is_valid in store.query(LACKING, {"index": index, "suffix": suffix}):
        with _lock_timeout("0"):  # it waits for all open transactions, and no writer waits for it
            if is_valid is False:  # its build was interrupted
                _run(f"drop index concurrently {name}")
            if not is_valid:
                _run(f"create index concurrently {name} on {table}{definition}")
        patiently(f"alter index {index} attach partition {name}")


def patiently(statement: str) -> None:
    """Run a statement that locks the log; again while a long transaction uses it, so that no writer waits long."""
    with _lock_timeout(LOCK_TIMEOUT):
        for _ in range(ATTEMPTS - 1):
            try:
                return _run(statement)
            except Exception as error:
                if not driver_errors.is_temporary(error):
                    raise
                time.sleep(PAUSE)
        return _run(statement)


@contextmanager
def _lock_timeout(limit: str) -> Iterator[None]:
    _run(f"set lock_timeout = '{limit}'")
    try:
        yield
    finally:
        _run("reset lock_timeout")


def _run(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)
