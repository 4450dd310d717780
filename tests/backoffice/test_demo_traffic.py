"""Demo traffic: editors who merge and collide, people who fill in forms, and an end when it is asked for."""

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
from devtools.samples import catalogue, editors, traffic, visits
from events import errors, store, types
from tests import factories, live

PEOPLE = {"Ada": "staff:1", "Grace": "staff:2"}


def desk(seed: int = 1) -> tuple[list[editors.Editor], list[str]]:
    said: list[str] = []
    return editors.pair(PEOPLE, Random(seed), said.append, visits.Visits()), said


def records(number: int = 3) -> None:
    for _ in range(number):
        factories.form(factories.user(first_name="Léa", last_name="Roux"), fields=list(catalogue.TEMPLATES[0].fields))


@pytest.mark.django_db
def test_the_first_meeting_is_at_the_same_field_and_the_second_beside_it() -> None:
    records()
    (ada, grace), _said = desk()
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
def test_two_values_for_one_field_collide_and_two_fields_merge() -> None:
    key = factories.user(first_name="Léa")
    (ada, grace), said = desk()
    ada.open = editors.Edit("user", str(key), "Léa", 1, "plan", "premium")
    grace.open = editors.Edit("user", str(key), "Léa", 1, "plan", "enterprise")
    ada.step()
    grace.step()
    grace.open = editors.Edit("user", str(key), "Léa", 1, "role", "owner")
    grace.step()
    assert said[1].startswith("Grace: conflict in plan of Léa")
    assert said[2] == "Grace: role of Léa: merged, v3"
    user = User.objects.get(pk=key)
    assert (user.plan, user.role) == ("premium", "owner")
    history = store.read_stream(types.stream_name("user", key), after=1)
    assert [event.metadata["actor_name"] for event in history] == ["Ada", "Grace"]
    assert [event.actor for event in history] == ["staff:1", "staff:2"]


@pytest.mark.django_db
def test_conflict_is_filed_where_people_resolve_it() -> None:
    key = factories.user(first_name="Léa")
    (ada, grace), _said = desk()
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
    (ada, grace), _said = desk(seed)
    for editor in (ada, grace, ada, grace):
        editor.step()
    assert Conflict.objects.count() == 1


@pytest.mark.django_db
def test_plan_and_role_are_not_changed_without_a_reason() -> None:
    key = factories.user(first_name="Léa")
    (ada, _grace), _said = desk()
    for version, plan in enumerate(["premium", "enterprise", "free"] * 5, start=1):
        ada.open = editors.Edit("user", str(key), "Léa", version, "plan", plan)
        ada.step()
    history = store.read_stream(types.stream_name("user", key), after=1)
    assert len(history) == 15
    assert all(event.reason for event in history)


@pytest.mark.django_db
def test_submissions_answer_the_forms_there_are() -> None:
    records(1)
    said: list[str] = []
    arriving = traffic.Submissions(1000, Random(2), said.append)
    for _ in range(20):
        assert arriving() > 0
    assert Submission.objects.filter(form__title="A form").count() == 20
    assert all("full_name" in submission.answers for submission in Submission.objects.all())


def test_what_goes_wrong_is_one_line_and_the_loop_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    stop = threading.Event()
    turns = 0

    def fails_once() -> float:
        nonlocal turns
        turns += 1
        if turns == 1:
            raise errors.StoreUnavailable
        stop.set()
        return 0

    traffic.run([fails_once], stop, said.append)
    assert turns == 2
    assert said == [f"StoreUnavailable: {errors.StoreUnavailable()}; again in 1 s"]


# -- as a process -----------------------------------------------------------------------------------------------------


@pytest.fixture
def process() -> Iterator[Any]:
    """Starts `manage.py demo_traffic` on this test's own database."""
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
def test_it_runs_until_it_is_told_to_stop(process: Any) -> None:
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
def test_ctrl_c_ends_it_even_while_the_database_keeps_it_waiting(process: Any) -> None:
    records()
    running = process("--rate", "500")
    assert running.stdout.readline().startswith("Ada and Grace are editing")
    with connection.cursor() as cursor:
        cursor.execute("begin; lock table submissions in access exclusive mode")
        try:
            waits_for_lock(cursor)
            running.send_signal(signal.SIGINT)
            rest, _ = running.communicate(timeout=10)
        finally:
            cursor.execute("rollback")
    assert rest.endswith("stopped\n")
    assert running.returncode == 0


def waits_for_lock(cursor: Any) -> None:
    """Returns once somebody waits for our lock; the test's own timeout ends it otherwise."""
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
def test_with_nothing_to_edit_it_says_what_to_do(process: Any) -> None:
    running = process()
    said, _ = running.communicate(timeout=30)
    assert running.returncode == 1
    assert "seed_demo" in said


@pytest.mark.browser
@pytest.mark.services
def test_presence_and_conflicts_are_seen_in_the_browser(stack: live.Stack, new_page: Any) -> None:
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
