"""Demo traffic: simulated editors that merge and conflict, submissions, and the end on a signal."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from random import Random
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.db import connection

from backoffice.models import Conflict, Submission, User
from devtools.demo import editors, traffic, visits
from devtools.samples import catalogue
from events import errors, store, types
from tests import factories, live

PEOPLE = {"Ada": "staff:1", "Grace": "staff:2"}


def pair(seed: int = 1) -> tuple[list[editors.Editor], list[str]]:
    logged: list[str] = []
    return editors.pair(PEOPLE, Random(seed), logged.append, visits.Visits()), logged


def records(number: int = 3) -> None:
    for _ in range(number):
        factories.form(factories.user(first_name="Léa", last_name="Roux"), fields=list(catalogue.TEMPLATES[0].fields))


@pytest.mark.django_db
def test_editors_meet_first_in_the_same_field_and_then_in_different_ones() -> None:
    records()
    (ada, grace), _logged = pair()
    meetings = []
    while len(meetings) < 2:
        ada.step()
        grace.step()
        if ada.open and grace.open and ada.open.topic == grace.open.topic and grace.alone == 0:
            meetings.append((ada.open.field == grace.open.field, ada.open.base_version == grace.open.base_version))
        ada.step()
        grace.step()
    assert meetings == [(True, True), (False, True)]


@pytest.mark.django_db
def test_changes_of_one_field_conflict_and_of_two_fields_merge() -> None:
    key = factories.user(first_name="Léa")
    (ada, grace), logged = pair()
    ada.open = editors.Edit("user", str(key), "Léa", 1, "plan", "premium")
    grace.open = editors.Edit("user", str(key), "Léa", 1, "plan", "enterprise")
    ada.step()
    grace.step()
    grace.open = editors.Edit("user", str(key), "Léa", 1, "role", "owner")
    grace.step()
    assert logged[1].startswith("Grace: conflict in plan of Léa")
    assert logged[2] == "Grace: role of Léa: merged, v3"
    user = User.objects.get(pk=key)
    assert (user.plan, user.role) == ("premium", "owner")
    history = store.read_stream(types.stream_name("user", key), after=1)
    assert [event.metadata["actor_name"] for event in history] == ["Ada", "Grace"]
    assert [event.actor for event in history] == ["staff:1", "staff:2"]


@pytest.mark.django_db
def test_conflict_is_filed_in_the_inbox() -> None:
    key = factories.user(first_name="Léa")
    (ada, grace), _logged = pair()
    ada.open = editors.Edit("user", str(key), "Léa", 1, "plan", "premium")
    grace.open = editors.Edit("user", str(key), "Léa", 1, "plan", "enterprise")
    ada.step()
    grace.step()
    filed = Conflict.objects.get()
    assert (filed.category, filed.key, filed.author) == ("user", str(key), "staff:2")


@pytest.mark.django_db
@pytest.mark.parametrize("seed", range(20))
def test_first_meeting_ends_in_a_conflict(seed: int) -> None:
    records()
    (ada, grace), _logged = pair(seed)
    for editor in (ada, grace, ada, grace):
        editor.step()
    assert Conflict.objects.count() == 1


@pytest.mark.django_db
def test_change_of_plan_or_role_has_a_reason() -> None:
    key = factories.user(first_name="Léa")
    (ada, _grace), _logged = pair()
    for version, plan in enumerate(["premium", "enterprise", "free"] * 5, start=1):
        ada.open = editors.Edit("user", str(key), "Léa", version, "plan", plan)
        ada.step()
    history = store.read_stream(types.stream_name("user", key), after=1)
    assert len(history) == 15
    assert all(event.reason for event in history)


@pytest.mark.django_db
def test_submissions_answer_the_existing_forms() -> None:
    records(1)
    logged: list[str] = []
    submissions = traffic.Submissions(1000, Random(2), logged.append)
    for _ in range(20):
        assert submissions() > 0
    assert Submission.objects.filter(form__title="A form").count() == 20
    assert all("full_name" in submission.answers for submission in Submission.objects.all())


def test_error_is_logged_in_one_line_and_the_loop_continues(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[str] = []
    stop = threading.Event()
    turns = 0

    def fails_once() -> float:
        nonlocal turns
        turns += 1
        if turns == 1:
            raise errors.StoreUnavailable
        stop.set()
        return 0

    traffic.run([fails_once], stop, logged.append)
    assert turns == 2
    assert logged == [f"StoreUnavailable: {errors.StoreUnavailable()}; retry in 1 s"]


# -- as a process -----------------------------------------------------------------------------------------------------


@pytest.fixture
def process() -> Iterator[Any]:
    """Returns a function that starts `manage.py demo_traffic` on this test's own database."""
    started: list[subprocess.Popen[str]] = []

    def start(*options: str) -> subprocess.Popen[str]:
        database = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}").geturl()
        env = os.environ | {"DATABASE_URL": database, "DEBUG": "1"}
        program = [sys.executable, "manage.py", "demo_traffic", "--no-presence", *options]
        process = subprocess.Popen(
            program, cwd=live.PROJECT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.services
@pytest.mark.django_db(transaction=True)
def test_command_runs_until_sigterm(process: Any) -> None:
    records()
    running = process("--rate", "200")
    assert running.stdout.readline().startswith("Ada and Grace are editing")
    assert re.match("(Ada|Grace): .* (Léa Roux|A form): applied", running.stdout.readline())
    running.terminate()
    rest, _ = running.communicate(timeout=10)
    assert rest.endswith("stopped\n")
    assert running.returncode == 0
    assert Submission.objects.exists()


@pytest.mark.services
@pytest.mark.django_db(transaction=True)
def test_ctrl_c_ends_the_command_while_it_waits_for_the_database(process: Any) -> None:
    records()
    running = process("--rate", "500")
    assert running.stdout.readline().startswith("Ada and Grace are editing")
    with connection.cursor() as cursor:
        cursor.execute("begin; lock table submissions in access exclusive mode")
        try:
            wait_for_blocked_query(cursor)
            running.send_signal(signal.SIGINT)
            rest, _ = running.communicate(timeout=10)
        finally:
            cursor.execute("rollback")
    assert rest.endswith("stopped\n")
    assert running.returncode == 0


def wait_for_blocked_query(cursor: Any) -> None:
    """Returns once another session waits for our lock; otherwise the test's timeout ends it."""
    while True:
        cursor.execute(
            "select count(*) from pg_locks where not granted and relation = 'submissions'::regclass"
            " and pg_sleep(0.02) is not null"
        )
        if cursor.fetchone()[0]:
            return
        cursor.execute("select pg_sleep(0.05)")


@pytest.mark.services
@pytest.mark.django_db(transaction=True)
def test_command_without_records_names_seed_demo(process: Any) -> None:
    running = process()
    logged, _ = running.communicate(timeout=30)
    assert running.returncode == 1
    assert "seed_demo" in logged


@pytest.mark.browser
@pytest.mark.services
def test_browser_shows_presence_and_conflicts_of_the_editors(stack: live.Stack, new_page: Any) -> None:
    stack.env["DEMO_PASSWORD"] = live.PASSWORD
    stack.manage("seed_demo", "--users", "20", "--submissions", "50")
    forms = new_page("agent", at="/admin/backoffice/form/")
    conflicts = new_page("agent", at="/admin/backoffice/conflict/")
    users = new_page("agent", at="/admin/backoffice/user/")
    program = [sys.executable, "manage.py", "demo_traffic", "--rate", "5", "--seed", "1"]
    with subprocess.Popen(program, cwd=live.PROJECT, env=stack.env, stdout=subprocess.DEVNULL) as running:
        try:
            for page in (users, forms):
                page.locator("tr .at-row .avatar.editing").first.wait_for(timeout=60_000)
            conflicts.locator("[data-inbox-badge]:not([hidden])").wait_for(timeout=60_000)
        finally:
            running.terminate()
    conflicts.reload()
    assert conflicts.locator("table tbody tr").count() >= 1
