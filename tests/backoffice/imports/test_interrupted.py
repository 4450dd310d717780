"""An import that was killed, interrupted or disconnected continues where it stopped when it is run again."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from django.core.management import call_command
from django.db import connection

from backoffice import models
from backoffice.sections.imports import identity, rows, run
from events.privacy import pseudonyms
from tests import factories, live

pytestmark = [pytest.mark.services, pytest.mark.django_db(transaction=True)]

ROWS = 4 * run.CHUNK + 1  # the first is imported in advance and creates the form
OWNER = "owner@example.org"
BLOCK = "insert into events_stream (stream, version, hash) values (%s, 1, '')"
WAITING = """
select w.pid from pg_locks w join pg_locks h on h.transactionid = w.transactionid and h.granted
 where not w.granted and h.pid = %s
"""
UNDATED = "no column says when the submissions were made; they get the time of the import"


def database() -> str:
    return urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}").geturl()


def arguments(path: Path) -> list[str]:
    return ["import_submissions", str(path), "--form", "Survey", "--owner", OWNER]


# A shell that runs the tests in the background has SIGINT ignored, and children inherit that.
MANAGE = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_path("manage.py", run_name="__main__")
"""


class Started:
    """The command as a process, and a transaction that blocks its writers at some of the rows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.blocker = psycopg.connect(database())
        self.observer = psycopg.connect(database(), autocommit=True)
        self.process: subprocess.Popen[str] | None = None

    def start(self, *blocked: int) -> subprocess.Popen[str]:
        key = pseudonyms.of(f"form-{models.Form.objects.get().pk}")
        assert key is not None
        for number in blocked:
            row = identity.id_of(key, (f"{rows.BY_ID}{number}", 1))
            self.blocker.execute(BLOCK, (f"submission-{row}",))
        self.process = subprocess.Popen(
            [sys.executable, "-c", MANAGE, *arguments(self.path)],
            cwd=live.PROJECT,
            env=os.environ | {"DATABASE_URL": database(), "DEBUG": "1"},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        return self.process

    def wait(self, blocked: int, written: int) -> list[int]:
        """Waits for `blocked` waiting backends and `written` committed submissions; returns the waiting process ids."""
        assert self.process is not None
        mine = self.blocker.info.backend_pid
        while self.process.poll() is None:
            waiting = [pid for (pid,) in self.observer.execute(WAITING, (mine,)).fetchall()]
            [there] = self.observer.execute("select count(*) from submissions").fetchone() or [0]
            if (len(waiting), there) == (blocked, written):
                return waiting
        raise AssertionError(self.process.communicate()[0])

    def close(self) -> None:
        self.blocker.close()
        self.observer.close()
        if self.process is not None and self.process.stdout is not None:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    factories.user(email=OWNER)
    path = tmp_path / "export.csv"
    lines = [f"{n},Red,text {n}\n" for n in range(ROWS)]
    path.write_text("id,Colour,Note\n" + lines[0])
    again(path)
    path.write_text("id,Colour,Note\n" + "".join(lines))
    running = Started(path)
    yield running
    running.close()


def again(path: Path) -> dict[str, Any]:
    out = io.StringIO()
    call_command(*arguments(path), "--json", stdout=out, stderr=io.StringIO())
    said: dict[str, Any] = json.loads(out.getvalue())
    return said


def assert_complete(path: Path, *, there: int) -> None:
    """Checks that the next run adds the missing rows once and reports `there` rows as existing."""
    said = again(path)
    assert (said["already_there"], said["added"], said["warnings"]) == (there, ROWS - there, [UNDATED])
    assert models.Submission.objects.count() == ROWS
    assert len({row.answers["note"] for row in models.Submission.objects.all()}) == ROWS
    said = again(path)
    assert (said["already_there"], said["added"]) == (ROWS, 0)


def test_killed_import_is_completed_by_the_next_run(started: Started) -> None:
    """The second chunk is lost, later ones are stored."""
    running = started.start(run.CHUNK + 500)
    started.wait(blocked=1, written=1 + 3 * run.CHUNK)
    running.kill()
    running.wait()
    started.blocker.rollback()
    assert_complete(started.path, there=1 + 3 * run.CHUNK)


def test_ctrl_c_ends_an_import_after_its_running_chunks(started: Started) -> None:
    running = started.start(run.CHUNK + 500, 2 * run.CHUNK + 500)
    started.wait(blocked=2, written=1 + run.CHUNK)
    running.send_signal(signal.SIGINT)
    started.blocker.rollback()
    said, _ = running.communicate()
    assert running.returncode == 1
    assert re.search(r"export\.csv: interrupted\. At least 1000 of 4000 submissions were written", said)
    assert "run the same command again" in said
    assert_complete(started.path, there=1 + 3 * run.CHUNK)


def test_import_that_loses_its_database_ends_with_a_remedy(started: Started) -> None:
    running = started.start(run.CHUNK + 500)
    [waiting] = started.wait(blocked=1, written=1 + 3 * run.CHUNK)
    started.observer.execute("select pg_terminate_backend(%s)", (waiting,))
    said, _ = running.communicate()
    started.blocker.rollback()
    assert running.returncode == 1
    assert "run the same command again" in said
    assert "Traceback" not in said
    assert_complete(started.path, there=1 + 3 * run.CHUNK)
