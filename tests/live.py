"""The product as processes of its own, for tests that need real sockets, real restarts and a real browser."""

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
from devtools import embedded

PROJECT = Path(__file__).resolve().parent.parent
ROLES = ("admin", "manager", "agent", "viewer", "dpo")
PASSWORD = "correct horse battery staple"
READY_SECONDS = 120
STOP_SECONDS = 15
TEMPLATE = "_template"  # ends the name of the database that others are copied from
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
    """Make a database as another one is. Nobody may be using the other one."""
    drop_database(name)
    command = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
    with _maintenance() as connection:
        connection.execute(command)


def drop_database(name: str) -> None:
    with _maintenance() as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _maintenance() -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(database_url("postgres"), autocommit=True)


def database_url(name: str) -> str:
    """The address of another database of the server that the tests use."""
    return urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}").geturl()


@contextlib.contextmanager
def worker_thread() -> Iterator[None]:
    """A Celery worker in a thread of this process, which leaves logging and standard output as they are.

    Celery sets up both unless somebody listens to `setup_logging`, and has Django set up logging once more; either
    takes the handlers of `caplog` off the root logger, for the rest of the run.
    """

    def leave_alone(**_: Any) -> None:
        """The listener has set up logging."""

    signals.setup_logging.connect(leave_alone)
    worker = start_worker(celery_app, pool="solo", perform_ping_check=False, shutdown_timeout=30)
    try:
        with override_settings(LOGGING_CONFIG=None), worker:
            yield
    finally:
        signals.setup_logging.disconnect(leave_alone)


class Stack:
    """Web and subscriptions on a database (and a Valkey) of their own.

    `url` is the site's address, `env` what its processes see. Tests reach the database with `query`, never with the
    ORM: that one belongs to the test process and its own database.
    """

    def __init__(self, name: str, template: str) -> None:
        self.database, self.template = f"test_live_{name}", template
        self.folder = Path(os.environ["DATA_DIR"]) / "live"
        self.folder.mkdir(exist_ok=True)
        self.database_url = database_url(self.database)
        self.valkey: embedded.Valkey | None = None
        self.port = embedded.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env: dict[str, str] = {}
        self.staff: dict[str, Staff] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    # -- the whole ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        copy_database(self.template, self.database)
        redis_url = os.environ["REDIS_URL"]
        if "FORMEASE_TEST_VALKEY" in os.environ:
            self.valkey = embedded.Valkey(self.folder, durable=False)
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
            "PYTHONUNBUFFERED": "1",
        }
        password = make_password(PASSWORD)
        for role in ROLES:
            ((number,),) = self.query(ADD_STAFF, role, password, role, role == "admin")
            self.staff[role] = Staff(id=number, password=password)
        self.heal()

    def heal(self) -> None:
        """Start whatever a test stopped."""
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
        """On the same port as before, so that open pages come back to it; returns when /readyz says 200."""
        self._spawn("web", ["-m", "realtime.server", "--host", "127.0.0.1", "--port", str(self.port)])
        if not embedded.wait_until(lambda: not self.running("web") or self.is_ready(), READY_SECONDS) or not (
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
        """As if the power went."""
        self._processes[name].kill()
        self._processes[name].wait()

    def stop_process(self, name: str) -> None:
        """As in a deploy: SIGTERM, and time to say good-bye."""
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
                embedded.bound([sys.executable, *program], orphan_signal=signal.SIGKILL),
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
        """Run a `manage.py` command against this stack; its output, or an error that shows it."""
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
        """Rows of one SQL statement (committed), for what a test sets up or counts behind the product's back."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            cursor = connection.execute(statement, parameters)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

    def session(self, role: str) -> str:
        """The key of a new session of the role's login: signing in by hand costs two pages and a slow hash."""
        person, session = self.staff[role], SessionStore()
        key = get_random_string(32)
        data = {
            SESSION_KEY: str(person.pk),
            BACKEND_SESSION_KEY: settings.AUTHENTICATION_BACKENDS[0],
            HASH_SESSION_KEY: person.get_session_auth_hash(),
        }
        self.query(ADD_SESSION, key, session.encode(data))
        return key
