"""Loads a large database for the benchmarks: users, forms and submissions of three years, without their events.

`python -m benchmarks dataset --users 1000000 --forms 3000000 --submissions 10000000` keeps it under `.local/dataset/`;
a second run within a week finds it complete and does nothing. `--scale 0.01` makes all three numbers smaller.

    1  drop indexes and constraints of the three tables
    2  insert slices of rows by generate_series, in parallel, in the order of their creation, so that neighbours in time
       are neighbours on the disk as in a real table
    3  create the indexes in parallel, then the constraints
    4  vacuum and analyse; seed the counters

Row n is a function of n, so that every run gives the same rows (relative to the time of loading). The log stays empty.

    skew       one user has 2 % of all submissions, in 20 forms; the others follow Zipf's law over forms, and few users
               have most forms
    deleted    5 % of each kind; last_login is null for a third of the users; a fifth of the submissions are not timed
    personal   names with accents and in several scripts, in plain text, as the read tables store them
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks import harness

FOLDER: Final = Path(__file__).resolve().parent.parent / ".local" / "dataset"
WORKERS: Final = min(os.cpu_count() or 2, 8)
SLICE: Final = 50_000
MOST_DAYS: Final = 7
TABLES: Final = ("users", "forms", "submissions")

# Fast and not durable: a load that is interrupted starts again.
LOADING: Final = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "autovacuum": "off",
    "max_wal_size": "16GB",
    "checkpoint_timeout": "1h",
    "maintenance_work_mem": "512MB",
    "max_parallel_maintenance_workers": "0",
}
SERVING: Final = {"shared_buffers": "1GB", "max_wal_size": "4GB"}


class Size(NamedTuple):
    """Numbers of users, forms and submissions."""

    users: int = 1_000_000
    forms: int = 3_000_000
    submissions: int = 10_000_000

    def scaled(self, scale: float) -> Size:
        return Size(*(max(100, int(count * scale)) for count in self))

    @property
    def label(self) -> str:
        return "-".join(map(str, self))


# -- rows -------------------------------------------------------------------------------------------------------------

# Record n of a kind was created at `dataset_ms`, evenly over the three years; its id begins with that instant, like
# those of `types.new_id`. All are inlined, for which every expression must be immutable.
FUNCTIONS: Final = (
    """
create function dataset_ms(n bigint, total bigint) returns bigint language sql immutable parallel safe as $$
    select {until} - 94608000000 + 94608000000 * n / (total + 1)
$$""",
    """
create function dataset_at(ms bigint) returns timestamptz language sql immutable parallel safe as $$
    select to_timestamp(ms::float / 1000)
$$""",
    """
create function dataset_id(kind text, n bigint, total bigint) returns uuid language sql immutable parallel safe as $$
    select (lpad(to_hex(dataset_ms(n, total)), 12, '0') || kind || lpad(to_hex(n), 15, '0'))::uuid
$$""",
    # In [0, 1), the same for the same number.
    """
create function dataset_random(n bigint, salt bigint) returns float language sql immutable parallel safe as $$
    select (hashint8extended(n, salt) & 9007199254740991)::float / 9007199254740992
$$""",
    "create unlogged table dataset_person (person int primary key, first_name text, last_name text, email text)",
    "create unlogged table dataset_template (template int primary key, title text, description text, fields jsonb)",
)

USERS: Final = """
insert into users (id, email, first_name, last_name, plan, role, last_login, created_at, deleted_at, version,
                   updated_at)
select dataset_id('7a018', n, {users}), 'n' || n || '.' || p.email, p.first_name, p.last_name,
       case when r < 0.68 then 'free' when r < 0.93 then 'premium' else 'enterprise' end,
       case when dataset_random(n, 2) < 0.8 then 'member' when dataset_random(n, 2) < 0.96 then 'owner'
            else 'partner' end,
       case when n % 3 > 0 then greatest(at, now() - dataset_random(n, 3) ^ 2 * interval '300 days') end,
       at, case when gone then least(at + interval '20 days', now()) end, 1 + gone::int, at
  from (select n, dataset_at(dataset_ms(n, {users})) as at, dataset_random(n, 1) as r,
               n > 1 and dataset_random(n, 4) < 0.05 as gone from generate_series({low}::bigint, {high}) n) u
  join dataset_person p on p.person = u.n % {people}
"""

# A user owns forms that were created after the user. `offset 0` has an expression computed once instead of copied into
# the functions, which could then not be inlined.
FORMS: Final = """
insert into forms (id, user_id, title, description, fields, archived, created_at, deleted_at, version, updated_at)
select dataset_id('7b018', f.n, {forms}), dataset_id('7a018', owner, {users}), t.title || ' ' || f.n, t.description,
       t.fields, f.n > 20 and dataset_random(f.n, 6) < 0.1, at,
       case when gone then least(at + interval '30 days', now()) end, 1 + gone::int, at
  from (select n, dataset_at(dataset_ms(n, {forms})) as at, n > 20 and dataset_random(n, 7) < 0.05 as gone,
               case when n <= 20 then 1 else 2 + floor(dataset_random(n, 5) ^ 3
                    * greatest({users} * n / {forms} - 1, 1))::bigint end as owner
          from generate_series({low}::bigint, {high}) n offset 0) f
  join dataset_template t on t.template = f.n % {templates}
"""

# Of the forms that existed by then: rank k with a probability proportional to 1 / (k + 100).
SUBMISSIONS: Final = """
insert into submissions (id, form_id, answers, started_at, completion_time, created_at, deleted_at, version, updated_at)
select dataset_id('7c018', n, {submissions}), dataset_id('7b018', form, {forms}),
       jsonb_build_object('full_name', 'Zoé ' || n, 'rating', n % 5 + 1, 'comment',
                          (array['Très bien, merci !', 'Could be faster.', 'Größer wäre besser.', 'ok',
                                 'I would recommend this to a colleague.'])[1 + n % 5]),
       at - coalesce(seconds, 60) * interval '1 second', seconds, at, case when gone then now() end, 1 + gone::int, at
  from (select n, dataset_at(dataset_ms(n, {submissions})) as at,
               case when n % 5 > 0 then floor((8 + 600 * dataset_random(n, 9) ^ 3) * 10) / 10 end as seconds,
               dataset_random(n, 10) < 0.05 as gone,
               case when n % 50 = 0 then 1 + n / 50 % 20 else least(
                    21 + floor(100 * exp(dataset_random(n, 8) * ln((known + 100)::float / 100)) - 100)::bigint,
                    {forms}) end as form
          from (select n, greatest({forms}::bigint * n / {submissions} - 21, 1) as known
                  from generate_series({low}::bigint, {high}) n offset 0) k offset 0) s
"""

ROWS: Final = {"users": USERS, "forms": FORMS, "submissions": SUBMISSIONS}
PEOPLE: Final = 20_000


# -- catalogue --------------------------------------------------------------------------------------------------------

CONSTRAINTS: Final = """
select conrelid::regclass::text, conname, contype::text, pg_get_constraintdef(oid) from pg_constraint
 where conrelid = any(%s::regclass[]) and contype in ('p', 'u', 'f', 'x') order by contype = 'f' desc, conname
"""
INDEXES: Final = """
select i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid) from pg_index i
 where i.indrelid = any(%s::regclass[])
   and not exists (select 1 from pg_constraint c where c.conindid = i.indexrelid and c.contype in ('p', 'u', 'x'))
 order by pg_relation_size(i.indrelid) desc, 1
"""


class Loader:
    """One load: connections of its own, so that the statements of each table run in parallel."""

    def __init__(self, size: Size) -> None:
        self.size = size
        self.seconds: dict[str, float] = {}

    def load(self) -> None:
        with self.timed("prepare"):
            known = self._prepare()
            restore = self._drop_indexes()  # 1
        for table in TABLES:  # 2
            with self.timed(table):
                self._insert(table, known)
        with self.timed("indexes"):  # 3
            self._in_parallel([*restore[0]], "indexes")
            for statement in restore[1]:
                _run(statement)
        with self.timed("analyse"):  # 4
            for table in TABLES:
                _run(f"vacuum (analyze) {table}")
            for drop in ("table dataset_person", "table dataset_template"):
                _run(f"drop {drop}")
        with self.timed("counters"):
            seed_counters()
        _run("checkpoint")

    @contextlib.contextmanager
    def timed(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - began

    def _prepare(self) -> dict[str, int]:
        """Create functions and the tables of names and templates; returns the numbers that the statements refer to."""
        from devtools.samples import catalogue, people

        until = int(time.time()) // 60 * 60_000
        for statement in FUNCTIONS:
            _run(statement.replace("{until}", f"{until}::bigint"))
        persons = [(n, *people.person(n)) for n in range(PEOPLE)]
        templates = [
            (n, one.title, one.description, json.dumps(list(one.fields))) for n, one in enumerate(catalogue.TEMPLATES)
        ]
        for table, rows in (("dataset_person", persons), ("dataset_template", templates)):
            with _connect() as connection, connection.cursor().copy(f"copy {table} from stdin") as copy:
                for row in rows:
                    copy.write_row(row)
            _run(f"analyze {table}")
        return {**self.size._asdict(), "people": PEOPLE, "templates": len(templates)}

    def _drop_indexes(self) -> tuple[list[str], list[str]]:
        """Drop all indexes and constraints; returns the statements that create them: the indexes, then the rest."""
        tables = list(TABLES)
        indexes, constraints = _query(INDEXES, (tables,)), _query(CONSTRAINTS, (tables,))
        for table, name, _kind, _definition in constraints:
            _run(f"alter table {table} drop constraint {name}")
        for name, _definition in indexes:
            _run(f"drop index {name}")
        made, rest = [definition for _, definition in indexes], []
        for table, name, kind, definition in sorted(constraints, key=lambda row: row[2] == "f"):
            if kind == "p":  # its index is built with the others, then adopted
                made.insert(0, f"create unique index {name} on {table} {definition.removeprefix('PRIMARY KEY ')}")
                definition = f"primary key using index {name}"  # noqa: PLW2901
            rest.append(f"alter table {table} add constraint {name} {definition}")
        return made, rest

    def _insert(self, table: str, known: dict[str, int]) -> None:
        count = known[table]
        slices = [
            ROWS[table].format(low=low, high=min(low + SLICE - 1, count), **known) for low in range(1, count + 1, SLICE)
        ]
        self._in_parallel(slices, table, unit=min(SLICE, count))

    def _in_parallel(self, statements: Sequence[str], name: str, unit: int = 1) -> None:
        """Run the statements in order, as many at a time as there are workers; raises the first error."""
        from tqdm import tqdm

        waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
        for statement in statements:
            waiting.put(statement)
        failures: list[BaseException] = []
        bar = tqdm(total=len(statements) * unit, desc=name, unit_scale=True, disable=None)

        def work() -> None:
            try:
                with _connect() as connection, contextlib.suppress(queue.Empty):
                    while not failures:
                        connection.execute(waiting.get_nowait())
                        bar.update(unit)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work) for _ in range(WORKERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        bar.close()
        if failures:
            raise failures[0]

    def report(self) -> list[dict[str, Any]]:
        rows = []
        for name, seconds in self.seconds.items():
            count = getattr(self.size, name, None)
            rate = round(count / seconds) if count else None
            rows.append({"step": name, "rows": count, "s": round(seconds, 1), "rows/s": rate})
        return [*rows, {"step": "all", "rows": sum(self.size), "s": round(sum(self.seconds.values()), 1)}]


def _connect() -> Any:
    import psycopg

    return psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)


def _run(statement: str) -> None:
    with _connect() as connection:
        connection.execute(statement)


def _query(statement: str, parameters: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
    with _connect() as connection:
        found: list[tuple[Any, ...]] = connection.execute(statement, parameters).fetchall()
        return found


def seed_counters() -> None:
    """Fill the counters as their seed does, up to the start of the empty log."""
    from django.db import transaction

    from events import head
    from events.rebuild import read_tables
    from metrics.counters import applying, seed, truth

    with transaction.atomic():
        read_tables.one_snapshot(truth.STILL)
        applying.lock()
        snapshot = seed.Snapshot({table: table for table in truth.TABLES})
        snapshot.fill(0)
        snapshot.put_in_place(head.epoch())
    for table in truth.TABLES:
        _run(f"vacuum (analyze) {table}")


# -- the database -----------------------------------------------------------------------------------------------------


def is_complete(place: Path) -> bool:
    """True when the dataset is complete and at most `MOST_DAYS` days old.

    In an older one the last days of the figures would be empty.
    """
    done = place / "complete.json"
    return done.exists() and time.time() - done.stat().st_mtime < MOST_DAYS * 86_400


@contextlib.contextmanager
def database(size: Size, folder: Path | None = None) -> Iterator[Path]:
    """Run services on a database with the dataset, loaded unless it is complete; temporary without a folder."""
    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="formease-bench-")))
        place = folder / size.label
        if not is_complete(place):
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            for path in (folder, place):
                path.chmod(0o711)  # PostgreSQL may run as another user and must pass
            loader = Loader(size)
            with harness.services(place, LOADING):
                loader.load()
            harness.table(f"Dataset: {WORKERS} workers, into {place}", loader.report())
            (place / "complete.json").write_text(json.dumps({"size": size._asdict(), "seconds": loader.seconds}) + "\n")
        with harness.services(place, SERVING):
            yield place


def add_arguments(parser: argparse.ArgumentParser, scale: float) -> None:
    """Add the options for the size of the dataset."""
    for name, count in Size()._asdict().items():
        parser.add_argument(f"--{name}", type=int, default=count)
    parser.add_argument("--scale", type=float, default=scale, help="a factor for all three numbers (%(default)g)")


def size_of(options: argparse.Namespace) -> Size:
    return Size(options.users, options.forms, options.submissions).scaled(options.scale)


def folder_of(size: Size) -> Path | None:
    """The folder that keeps a large dataset for the next run; None for a small one, which loads in seconds."""
    return FOLDER if sum(size) > 1_000_000 or (FOLDER / size.label).exists() else None


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, 1.0)
    parser.add_argument("--fresh", action="store_true", help="load it again")
    options = parser.parse_args(arguments)
    size = size_of(options)
    place = FOLDER / size.label
    if options.fresh:
        shutil.rmtree(place, ignore_errors=True)
    elif is_complete(place):
        print(f"{place} is complete; --fresh loads it again")
        return 0
    with database(size, FOLDER):
        counts = [{"table": table, "rows": _query(f"select count(*) from {table}")[0][0]} for table in TABLES]
        heavy = _query(HEAVY)[0][0]
    harness.table(f"The busiest user has {heavy:,} submissions", counts)
    loaded = json.loads((place / "complete.json").read_text())
    harness.save("dataset", loaded)
    return 0


HEAVY: Final = """
select count(*) from submissions s join forms f on f.id = s.form_id
 where f.user_id = (select id from users order by created_at limit 1)
"""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
