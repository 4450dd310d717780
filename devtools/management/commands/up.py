"""`manage.py up` (`make run`): runs the whole product on one machine until Ctrl-C."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import shutil
import signal
import socket
import sys
import time
from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError
from pathlib import Path
from typing import Any

import psycopg
from django.apps import apps
from django.conf import settings
from django.core.management import BaseCommand, CommandError, call_command, get_commands
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from backoffice import health
from devtools import processes, services, supervisor
from devtools.postgres import Postgres
from devtools.valkey import Valkey

SERVICES_FILE = "services.env"
CHILDREN_FILE = "children"
READY_SECONDS = 60.0
LEFTOVER_SECONDS = 10.0  # limit for the children of a killed run to end
# Celery prints a six-line warning for root; on a developer's own machine that is not a mistake.
AS_ROOT = {"PYTHONWARNINGS": "ignore:You're running the worker with superuser privileges"}
LOGINS = ("admin", "manager", "agent", "viewer", "dpo")


class Command(BaseCommand):
    help = "Start everything: PostgreSQL and Valkey (unless DATABASE_URL and REDIS_URL are set), web, worker, beat."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=port_number, default=settings.PORT, help="default: PORT, or 8000")
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--demo", action="store_true", help="also run simulated editors and incoming submissions")
        parser.add_argument("--reset", action="store_true", help="delete the embedded databases and secrets, then end")
        parser.add_argument("--prepare", action="store_true", help=SUPPRESS)  # step 3, in a process of its own
        parser.add_argument("--new-password", action="store_true", help=SUPPRESS)

    def handle(self, **options: Any) -> None:
        if options["prepare"]:
            return prepare(new_password=options["new_password"])
        try:
            with services.lock_folder(settings.DATA_DIR):
                if options["reset"]:
                    return reset(settings.DATA_DIR)
                failed = asyncio.run(Up(options["host"], options["port"], demo=options["demo"]).run())
        except services.EmbeddedError as error:
            raise CommandError(str(error)) from None
        if failed:
            raise CommandError(failed)
        return None


class Up:
    """One run of the product; stops everything that it starts."""

    def __init__(self, host: str, port: int, *, demo: bool) -> None:
        self.host, self.port, self.demo = host, port, demo
        self.folder: Path = settings.DATA_DIR
        self.services_file = self.folder / SERVICES_FILE
        self.was_killed = self.services_file.exists()
        self.env = own_environment(self.services_file) | {"PORT": str(port), "DATA_DIR": str(self.folder)}
        self.started = time.monotonic()
        self.log = supervisor.ConsoleLog(sys.stdout)
        self.supervisor = supervisor.Supervisor(self.log, self.env, settings.BASE_DIR)
        self.supervisor.started = self.record_child
        self.services: list[services.Service] = []
        self.new_password = False

    async def run(self) -> str:
        """Run the product until it is stopped; returns the reason of a failure, empty after a regular stop.

        1 end leftovers of a killed run, check the port (the folder is locked already)  2 start PostgreSQL and Valkey
        3 migrate, seed a first run  4 start web, worker, beat, subscriptions  5 when ready, print address and logins
        6 stop everything in reverse order.
        """
        self.end_leftovers()
        self.require_port()
        self.supervisor.install_signal_handlers()
        try:
            self.start_services()
            self.write_services_file()
            if self.is_prepared() or await self.supervisor.once(self.preparation()):
                await self.supervisor.run(self.children(), self.services, self.announce())
            elif not self.supervisor.stopping.is_set():
                return "the database could not be prepared: see above"
            return self.supervisor.failed
        finally:
            self.stop_services()

    # -- 1 --------------------------------------------------------------------------------------------------------

    def end_leftovers(self) -> None:
        """End the children of a run that was killed.

        On Linux they end by themselves, but a worker that is reconnecting to Valkey may take a while. On other
        systems they would keep running, with the port and with addresses of services that no longer exist.
        """
        record = self.folder / CHILDREN_FILE
        for line in record.read_text().splitlines() if record.exists() else []:
            pid, _, program = line.partition(" ")
            if program and program in processes.command_line(int(pid)):
                processes.end_leftover(int(pid), (signal.SIGTERM, signal.SIGKILL), LEFTOVER_SECONDS)
        record.unlink(missing_ok=True)

    def record_child(self, child: supervisor.Child, pid: int) -> None:
        with (self.folder / CHILDREN_FILE).open("a") as record:
            record.write(f"{pid} {' '.join(child.program)}\n")

    def require_port(self) -> None:
        """Raises `EmbeddedError` when the port is taken; a run that was killed a moment ago may still hold it."""
        if processes.wait_until(self.port_is_free, LEFTOVER_SECONDS if self.was_killed else 0):
            return
        raise services.EmbeddedError(f"port {self.port} is in use: stop what uses it, or set PORT to another one")

    def port_is_free(self) -> bool:
        with socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.host, self.port))
            except socket.gaierror:
                raise services.EmbeddedError(f"{self.host} is not a host name or an address") from None
            except PermissionError:
                raise services.EmbeddedError(f"port {self.port} requires root: set PORT to 1024 or more") from None
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL:
                    raise services.EmbeddedError(f"{self.host} is not an address of this machine") from None
                return False
        return True

    # -- 2 --------------------------------------------------------------------------------------------------------

    def start_services(self) -> None:
        if "DATABASE_URL" not in self.env:
            postgres = Postgres(self.folder)
            self.start_service(postgres)
            self.env["DATABASE_URL"] = postgres.url()
            self.log.write("postgres", f"PostgreSQL {postgres.version} in {postgres.cluster}")
        if "REDIS_URL" not in self.env:
            for old in self.folder.glob("bell-*"):  # tokens of an earlier Valkey (events/notifications.py)
                old.unlink()
            valkey = Valkey(self.folder)
            self.start_service(valkey)
            self.env["REDIS_URL"] = valkey.url()
            self.log.write("valkey", f"Valkey {valkey.version} on 127.0.0.1:{valkey.port}")
        if "SECRET_KEY" not in self.env:
            self.env["SECRET_KEY"] = self.kept_secret("secret-key", lambda: secrets.token_urlsafe(48))
        if settings.DEBUG:
            given, kept = self.env.get("DEMO_PASSWORD"), self.folder / "demo-password"
            self.new_password = bool(given and kept.exists() and kept.read_text().strip() != given)
            if self.new_password:
                kept.unlink()
            self.env["DEMO_PASSWORD"] = self.kept_secret("demo-password", lambda: given or secrets.token_urlsafe(9))

    def start_service(self, service: services.Service) -> None:
        self.services.append(service)
        service.start()

    def stop_services(self) -> None:
        self.services_file.unlink(missing_ok=True)
        (self.folder / CHILDREN_FILE).unlink(missing_ok=True)
        for service in reversed(self.services):
            service.stop()
        if self.services:
            self.log.write("up", "stopped")

    def kept_secret(self, name: str, make: Any) -> str:
        """A secret that is created once and stored in a file that only its owner can read."""
        path = self.folder / name
        if not path.exists():
            write_private(path, make())
        return path.read_text().strip()

    def write_services_file(self) -> None:
        """Write the addresses that settings.py reads, for other commands of this project while we run."""
        values = {name: self.env[name] for name in ("DATABASE_URL", "REDIS_URL", "SECRET_KEY")}
        values |= {"UP_PID": str(os.getpid()), "UP_PORT": str(self.port)}
        write_private(self.services_file, "".join(f"{name}={value}\n" for name, value in values.items()))

    # -- 3 --------------------------------------------------------------------------------------------------------

    def is_prepared(self) -> bool:
        """True when the database is migrated and has data. Two queries, because a Django process would take seconds."""
        if self.new_password:
            return False
        try:
            with psycopg.connect(self.env["DATABASE_URL"], connect_timeout=5) as connection:
                applied = set(connection.execute(health.APPLIED).fetchall())
                used = connection.execute("SELECT 1 FROM users LIMIT 1").fetchone() is not None
        except psycopg.Error:  # no database yet, or an error that the preparation will report
            return False
        return health.wanted_migrations() <= applied and (used or not settings.DEBUG)

    def preparation(self) -> supervisor.Child:
        options = ["--new-password"] if self.new_password else []
        return supervisor.Child("prepare", supervisor.python("manage.py", "up", "--prepare", *options))

    # -- 4 --------------------------------------------------------------------------------------------------------

    def children(self) -> list[supervisor.Child]:
        """The processes besides the services, stopped by rank: web first, then beat, then the workers."""
        web = ["-m", "realtime.server", "--host", self.host, "--port", str(self.port), "--log-level", "warning"]
        celery = ["-m", "celery", "-A", "backoffice", "--quiet"]
        children = [
            supervisor.Child("web", supervisor.python(*web), rank=0),
            supervisor.Child(
                "worker", supervisor.python(*celery, "worker", "-c", "2", "-l", "INFO"), rank=2, env=AS_ROOT
            ),
            supervisor.Child("beat", supervisor.python(*celery, "beat", "--pidfile="), rank=1, late=True),
            supervisor.Child("subscriptions", supervisor.python("manage.py", "run_subscriptions"), rank=2),
        ]
        if self.demo:
            children.append(supervisor.Child("demo", supervisor.python("manage.py", "demo_traffic"), rank=0, late=True))
        return children

    # -- 5 --------------------------------------------------------------------------------------------------------

    async def announce(self) -> None:
        """Print the address and the logins once /readyz answers 200."""
        while not await self.is_ready():
            if time.monotonic() - self.started > READY_SECONDS:
                self.log.write("up", f"/readyz has not answered 200 after {READY_SECONDS:.0f} s; still waiting")
                self.started = time.monotonic()
            await asyncio.sleep(0.1)
        self.log.write("up", f"ready after {time.monotonic() - self.started:.1f} s: {self.address}/admin/")
        if settings.DEBUG:
            self.log.write("up", f"sign in as {', '.join(LOGINS)}; password: {self.env['DEMO_PASSWORD']}")
        self.log.write("up", f"Ctrl-C stops everything; data is kept in {self.folder}")

    @property
    def address(self) -> str:
        host = "127.0.0.1" if self.host in {"", "0.0.0.0", "::"} else self.host  # noqa: S104 - compared, not bound
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    async def is_ready(self) -> bool:
        """True when /readyz answers 200. The request is written by hand: one status line needs no client library."""
        host = self.address.removeprefix("http://").rsplit(":", 1)[0].strip("[]")
        try:
            reader, writer = await asyncio.open_connection(host, self.port)
        except OSError:
            return False
        try:
            writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            status = await asyncio.wait_for(reader.readline(), 10)
            return status.split()[1:2] == [b"200"]
        except (OSError, TimeoutError):
            return False
        finally:
            writer.close()


def port_number(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise ArgumentTypeError(f"{text!r} is not a port number (1-65535)")
    return int(text)


def own_environment(services_file: Path) -> dict[str, str]:
    """Our environment without the values that settings.py read from the file of an earlier run that was killed."""
    env = dict(os.environ)
    if services_file.exists():
        for line in services_file.read_text().splitlines():
            name, _, value = line.partition("=")
            if env.get(name) == value:
                del env[name]
    return env


def write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def reset(folder: Path) -> None:
    """Delete only the files that we created: DATA_DIR may be a folder with other contents."""
    for name in ("postgres", "postgres.new", "valkey", "run"):
        shutil.rmtree(folder / name, ignore_errors=True)
    secrets_files = ("secret-key", "demo-password")
    for pattern in ("*.log", SERVICES_FILE, CHILDREN_FILE, *secrets_files, "celerybeat-schedule*", "bell-*"):
        for path in folder.glob(pattern):
            path.unlink()
    sys.stdout.write(f"{folder} is reset: the next start creates a new database\n")


def prepare(*, new_password: bool) -> None:
    """Step 3, in a process of its own: migrate; in development, seed a first run or set a new password."""
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if plan:
        sys.stdout.write(f"applying {len(plan)} migrations\n")
        call_command("migrate", interactive=False, verbosity=0)
    if not settings.DEBUG:
        return
    if "seed_demo" in get_commands() and not apps.get_model("backoffice", "User").objects.exists():
        call_command("seed_demo")
    elif new_password:
        for login in apps.get_model(settings.AUTH_USER_MODEL).objects.filter(username__in=LOGINS):
            login.set_password(os.environ["DEMO_PASSWORD"])
            login.save(update_fields=["password"])
