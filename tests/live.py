"""The product as separate processes, for tests that need real sockets, real restarts and a real browser."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from celery import signals
from celery.contrib.testing.worker import start_worker
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.hashers import make_password
from django.contrib.sessions.backends.db import SessionStore
from django.test import override_settings
from django.utils.crypto import get_random_string
from psycopg import sql

from backoffice import celery_app
from backoffice.models import Staff
from devtools import processes
from devtools.valkey import Valkey

PROJECT = Path(__file__).resolve().parent.parent
ROLES = ("admin", "manager", "agent", "viewer", "dpo")
PASSWORD = "correct horse battery staple"
READY_SECONDS = 120
STOP_SECONDS = 15
TEMPLATE = "_template"  # suffix of the database that others are copied from
ADD_STAFF = """
    insert into staff (username, password, role, is_staff, is_superuser, is_active, first_name, last_name, email,
                       date_joined)
    values (%s, %s, %s, true, %s, true, '', '', '', now())
    returning id
"""
ADD_SESSION = (
    "insert into django_session (session_key, session_data, expire_date) values (%s, %s, now() + interval '1 d')"
)


def copy_database(template: str, name: str) -> None:
    """Copy the database `template`, to which no session may be connected."""
    drop_database(name)
    command = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
    with _maintenance() as connection:
        connection.execute(command)
    with psycopg.connect(database_url(name), autocommit=True) as connection:  # else the first append would draw it
        connection.execute("select events_current_epoch()")


def drop_database(name: str) -> None:
    with _maintenance() as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


SESSIONS = """
select pid, application_name, state, backend_start, state_change, left(query, 300) from pg_stat_activity
 where datname = %s order by backend_start
"""


def sessions(name: str, patience: float = 3.0) -> list[tuple[Any, ...]]:
    """The sessions that are still connected to a database; those that are ending have `patience` seconds for it."""
    found: list[tuple[Any, ...]] = []

    def none_left() -> bool:
        found[:] = connection.execute(SESSIONS, (name,)).fetchall()
        return not found

    with _maintenance() as connection:
        processes.wait_until(none_left, patience)
    return found


def _maintenance() -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(database_url("postgres"), autocommit=True)


def database_url(name: str) -> str:
    """The URL of another database on the server that the tests use."""
    return urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}").geturl()


def purge_queues() -> None:
    """Delete the tasks that wait, such as those that other tests left."""
    with celery_app.connection_for_write() as broker:
        celery_app.control.purge(broker)


@contextlib.contextmanager
def worker_thread() -> Iterator[None]:
    """A Celery worker in a thread of this process that leaves logging and standard output unchanged.

    Celery configures both unless `setup_logging` has a receiver, and makes Django configure logging again. Either
    would remove the handlers of `caplog` from the root logger for the rest of the run.
    """

    def receive(**_: Any) -> None:
        """Does nothing: that a receiver exists disables Celery's own configuration."""

    signals.setup_logging.connect(receive)
    worker = start_worker(celery_app, pool="solo", perform_ping_check=False, shutdown_timeout=30)
    try:
        with override_settings(LOGGING_CONFIG=None), worker:
            yield
    finally:
        signals.setup_logging.disconnect(receive)


class Stack:
    """Web and subscriptions with their own database (and Valkey).

    `url` is the site's address, `env` the environment of its processes. Tests use `query` for its database, never the
    ORM, which is connected to the test process's own database.
    """

    def __init__(self, name: str, template: str) -> None:
        self.database, self.template = f"test_live_{name}", template
        self.folder = Path(os.environ["DATA_DIR"]) / "live"
        self.folder.mkdir(exist_ok=True)
        self.database_url = database_url(self.database)
        self.valkey: Valkey | None = None
        self.port = processes.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env: dict[str, str] = {}
        self.staff: dict[str, Staff] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    # -- life cycle --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        copy_database(self.template, self.database)
        redis_url = os.environ["REDIS_URL"]
        if "FORMEASE_TEST_VALKEY" in os.environ:
            self.valkey = Valkey(self.folder, durable=False)
            self.valkey.start()
            redis_url = self.valkey.url()
        self.env = os.environ | {
            "DJANGO_SETTINGS_MODULE": "tests.live_settings",
            "DATABASE_URL": self.database_url,
            "REDIS_URL": redis_url,
            "REDIS_PREFIX": f"{self.database}",
            "DATA_DIR": str(self.folder),
            "PORT": str(self.port),
            "DEBUG": "1",
            "PROCESS_REPORTS": "1",
            "PYTHONUNBUFFERED": "1",
        }
        password = make_password(PASSWORD)
        for role in ROLES:
            ((number,),) = self.query(ADD_STAFF, role, password, role, role == "admin")
            self.staff[role] = Staff(id=number, password=password)
        self.restart_stopped()

    def restart_stopped(self) -> None:
        """Start the processes that a test stopped."""
        if self.valkey and not self.valkey.running:
            self.valkey.start()
        if not self.running("web"):
            self.start_web()
        if not self.running("subscriptions"):
            self.start_subscriptions()

    def stop(self) -> None:
        for name in ("web", "worker", "subscriptions"):
            self.stop_process(name)
        if self.valkey:
            self.valkey.stop()
        drop_database(self.database)
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- its processes --------------------------------------------------------------------------------------------

    def start_web(self) -> None:
        """Start the web process on the same port as before, so that open pages reconnect; returns when it is ready.

        Raises RuntimeError.
        """
        self._spawn("web", ["-m", "realtime.server", "--host", "127.0.0.1", "--port", str(self.port)])
        if not processes.wait_until(lambda: not self.running("web") or self.is_ready(), READY_SECONDS) or not (
            self.running("web")
        ):
            raise RuntimeError(f"the web process did not get ready:\n{self.log('web')}")

    def start_subscriptions(self) -> None:
        self._spawn("subscriptions", ["manage.py", "run_subscriptions"])

    def start_worker(self) -> None:
        self._spawn("worker", ["-m", "celery", "-A", "backoffice", "worker", "-c", "1"])

    def kill_web(self) -> None:
        self.kill_process("web")

    def kill_process(self, name: str) -> None:
        """Kill the process, as a power cut would."""
        self._processes[name].kill()
        self._processes[name].wait()

    def stop_process(self, name: str) -> None:
        """Stop the process as a deploy does: SIGTERM, then SIGKILL after STOP_SECONDS."""
        process = self._processes.pop(name, None)
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def running(self, name: str) -> bool:
        process = self._processes.get(name)
        return process is not None and process.poll() is None

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def _spawn(self, name: str, program: Sequence[str]) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                processes.child_command([sys.executable, *program], orphan_signal=signal.SIGKILL),
                cwd=PROJECT,
                env=self.env | {"SERVICE_NAME": name},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def is_ready(self) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/readyz", timeout=5) as answer:
            return answer.status == 200
        return False

    # -- its data -------------------------------------------------------------------------------------------------

    def manage(self, *arguments: str, stdin: str = "") -> str:
        """Run a `manage.py` command against this stack; returns its output. Raises RuntimeError."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=PROJECT,
            env=self.env,
            input=stdin,
            text=True,
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"manage.py {arguments[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def query(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Rows of one committed SQL statement, for setup and counts that bypass the product."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            cursor = connection.execute(statement, parameters)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

    def session(self, role: str) -> str:
        """Create a session of the role's login and return its key; signing in on the page would be slower."""
        person, session = self.staff[role], SessionStore()
        key = get_random_string(32)
        data = {
            SESSION_KEY: str(person.pk),
            BACKEND_SESSION_KEY: settings.AUTHENTICATION_BACKENDS[0],
            HASH_SESSION_KEY: person.get_session_auth_hash(),
        }
        self.query(ADD_SESSION, key, session.encode(data))
        return key
