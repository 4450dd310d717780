"""Erasing and exporting the data of a person with many submissions: in batches, with progress, resumable."""

from __future__ import annotations

import json
import uuid
from typing import Any, Final

import psycopg
import pytest
from celery import current_app
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from backoffice import health, models
from backoffice.sections.forms import domain as forms
from backoffice.sections.privacy import erasure, export, export_jobs, tasks
from backoffice.sections.submissions import domain as submissions
from backoffice.sections.users import domain as users
from devtools import processes
from events import commands, jobs, store
from events import tasks as event_tasks
from events.export_reads import ExportReads
from events.privacy import purging
from events.types import Command, new_id
from tests import factories
from tests.backoffice import api_client
from tests.costs import assert_about_linear, rows_read, statements

SECRET = "Zoelinde"


def person(count: int, owned: int = 1) -> uuid.UUID:
    """A user with forms of `count` submissions each."""
    user = factories.user(first_name=SECRET)
    for _ in range(owned):
        form = factories.form(user)
        received = [submissions.ReceiveSubmission(form_id=form, answers={"q": SECRET}) for _ in range(count)]
        commands.dispatch_many([Command(id=new_id(), key=str(new_id()), data=data) for data in received])
    return user


def erase(user: uuid.UUID) -> None:
    commands.dispatch(factories.command(users.EraseUser(), user, reason="asked"))


def left(user: uuid.UUID) -> int:
    """Submissions whose answers can still be read by pages."""
    found = models.Submission.objects.filter(form__user_id=user).exclude(answers=submissions.NO_ANSWERS)
    return found.count()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the tasks that were sent; the queue of the tests has no worker."""
    found: list[str] = []
    monkeypatch.setattr(current_app, "send_task", lambda name, *_arguments, **_named: found.append(name))
    return found


# -- purge ------------------------------------------------------------------------------------------------------------


FILL = """
insert into submissions (id, form_id, answers, created_at, version, updated_at)
select gen_random_uuid(), %s, '{"q": "x"}', now() - n * interval '1 minute', 1, now() from generate_series(1, %s) n
"""


def fill(form: uuid.UUID, size: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(FILL, [form, size])
        cursor.execute("analyze submissions")


@pytest.fixture
def crowd(db: None) -> None:
    """Submissions to another form: of a small table, PostgreSQL would read all rows for each batch."""
    fill(factories.form(), 20_000)


def test_purge_reads_each_submission_once(crowd: None) -> None:
    def cost(size: int) -> int:
        form = factories.form()
        fill(form, size)
        subjects, place, read = [f"form-{form}"], None, 0

        def sweep() -> None:
            nonlocal place, read
            while True:
                rows, place = erasure._sweep_answers(subjects, 100, place)
                read += rows
                if place is None:
                    return

        spent = rows_read(sweep)
        assert read == size
        assert not models.Submission.objects.filter(form_id=form).exclude(answers=submissions.NO_ANSWERS).exists()
        return spent

    assert cost(500) < 10 * 500
    assert_about_linear(cost, 500)


@pytest.mark.django_db
def test_purge_reaches_the_lowest_id() -> None:
    form = factories.form()
    now = {"created_at": timezone.now(), "updated_at": timezone.now()}
    models.Submission.objects.create(id=uuid.UUID(int=0), form_id=form, answers={"q": SECRET}, version=1, **now)
    assert erasure._sweep_answers([f"form-{form}"], 100, None) == (1, None)
    assert models.Submission.objects.get(form_id=form).answers == submissions.NO_ANSWERS


def test_export_reads_each_submission_once(crowd: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "BATCH", 100)

    def cost(size: int) -> int:
        user = factories.user()
        fill(factories.form(user), size)
        return rows_read(document, user)

    assert cost(500) < 10 * 500
    assert_about_linear(cost, 500)


@pytest.mark.django_db(transaction=True)
def test_request_purges_a_little_and_a_worker_the_rest(monkeypatch: pytest.MonkeyPatch, sent: list[str]) -> None:
    monkeypatch.setattr(erasure, "AT_ONCE", 10)
    monkeypatch.setattr(purging, "BATCH", 8)
    user = person(20, owned=2)
    erase(user)
    assert sent.count("events.tasks.finish_erasures") >= 1
    assert left(user) > 0
    progress = purging.progress(f"user-{user}")
    assert progress is not None
    assert progress.expected == 40
    assert progress.rows == 40 - left(user)
    client = Client()
    client.force_login(api_client.staff("dpo"))
    page = client.get(reverse("admin:backoffice_user_change", args=[user])).content.decode()
    assert "still being deleted" in page
    assert f'data-poll="{reverse("admin:backoffice_user_purge", args=[user])}"' in page
    part = reverse("admin:backoffice_user_purge", args=[user])
    assert "of 40 rows" in client.get(part).content.decode()
    purging.finish()
    assert left(user) == 0
    assert purging.progress(f"user-{user}") is None
    assert "data-poll-end" in client.get(part).content.decode()
    assert store.query("select count(*) from events_purge") == [(0,)]


@pytest.mark.django_db(transaction=True)
def test_interrupted_purge_goes_on_with_the_next_row(monkeypatch: pytest.MonkeyPatch, sent: list[str]) -> None:
    monkeypatch.setattr(erasure, "AT_ONCE", 0)
    monkeypatch.setattr(purging, "BATCH", 5)
    user = person(23)
    erase(user)
    handled: list[tuple[str, int]] = []

    def stop(step: str, rows: int) -> None:
        handled.append((step, rows))
        if sum(rows for name, rows in handled if name == "answers of submissions") in {5, 15}:
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            purging.finish(report=stop)
    purging.finish(report=stop)
    assert [rows for name, rows in handled if name == "answers of submissions"] == [5, 5, 5, 5, 3]
    assert left(user) == 0


@pytest.mark.django_db(transaction=True)
def test_erasure_that_cannot_be_purged_does_not_stop_others(monkeypatch: pytest.MonkeyPatch, sent: list[str]) -> None:
    monkeypatch.setattr(erasure, "AT_ONCE", 0)
    first, second = person(2), person(2)
    erase(first)
    erase(second)
    form = str(models.Form.objects.get(user_id=first).pk)
    real = erasure._sweep_answers

    def failing(subjects: Any, limit: int, place: Any) -> tuple[int, Any]:
        if f"form-{form}" in subjects:
            raise ValueError("spoiled")
        return real(subjects, limit, place)

    name = "answers of submissions"
    step = purging.extension.purgers[name]
    assert isinstance(step, purging.Sweep)
    monkeypatch.setitem(purging.extension.purgers, name, step._replace(run=failing))
    with pytest.raises(ValueError, match="spoiled"):
        purging.finish()
    assert (left(first), left(second)) == (2, 0)
    monkeypatch.setitem(purging.extension.purgers, name, step)
    purging.finish()
    assert left(first) == 0


@pytest.mark.django_db(transaction=True)
def test_all_groups_are_purged_although_copies_cannot_be_dropped(
    monkeypatch: pytest.MonkeyPatch, sent: list[str]
) -> None:
    monkeypatch.setattr(erasure, "AT_ONCE", 0)
    monkeypatch.setattr(purging, "GROUP", 1)
    user = person(2, owned=3)
    erase(user)

    def forbidden(_subjects: Any, _limit: int) -> int:
        raise ValueError("permission denied")

    with monkeypatch.context() as missing:
        missing.setattr(purging, "_copies", forbidden)
        with pytest.raises(ValueError, match="permission denied"):
            purging.finish()
    assert left(user) == 0
    assert purging.progress(f"user-{user}") is not None
    steps: list[str] = []
    assert purging.finish(report=lambda step, _rows: steps.append(step)) == 4, "the user and their forms"
    assert steps == ["copies"]
    assert purging.progress(f"user-{user}") is None


@pytest.mark.django_db(transaction=True)
def test_task_leaves_an_erasure_to_the_process_that_purges_it(monkeypatch: pytest.MonkeyPatch, sent: list[str]) -> None:
    monkeypatch.setattr(erasure, "AT_ONCE", 0)
    user = person(3)
    erase(user)
    with psycopg.connect(**health.parameters()) as other:
        other.execute("select from events_purge for update")
        assert event_tasks.finish_erasures() == 0
    assert left(user) == 3
    event_tasks.finish_erasures()
    assert left(user) == 0


@pytest.mark.django_db(transaction=True)
def test_next_task_continues_where_one_stopped(monkeypatch: pytest.MonkeyPatch, sent: list[str]) -> None:
    monkeypatch.setattr(erasure, "AT_ONCE", 0)
    monkeypatch.setattr(event_tasks, "PURGED_AT_ONCE", 5)
    user = person(12)
    erase(user)
    runs = 0
    while purging.progress(f"user-{user}"):
        event_tasks.finish_erasures()
        runs += 1
    assert left(user) == 0
    assert runs >= 3


# -- export -----------------------------------------------------------------------------------------------------------


def document(user: uuid.UUID) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(b"".join(export.parts(models.User.objects.get(pk=user))))
    return found


@pytest.mark.django_db
@pytest.mark.parametrize("batch", [1, 2, 3, 7, 500])
def test_parts_of_any_size_make_the_same_document(monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    user, empty = person(3, owned=3), factories.user()
    expected, nothing = document(user), document(empty)
    monkeypatch.setattr(export, "BATCH", batch)
    assert document(user) == expected
    assert document(empty) == nothing
    assert [len(expected[name]) for name in ("forms", "submissions", "conflicts")] == [3, 9, 0]
    assert all(len(row["events"]) == 1 for row in expected["submissions"])


@pytest.mark.django_db
def test_export_needs_a_few_statements_for_each_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "BATCH", 50)

    def cost(size: int) -> int:
        return statements(document, person(size))

    assert cost(200) - cost(100) <= 2 * 5, "two more parts"


@pytest.mark.django_db
def test_small_export_is_sent_at_once_in_one_part_for_many_records() -> None:
    user, client = person(40), Client()
    client.force_login(api_client.staff("dpo"))
    response = client.post(reverse("admin:backoffice_user_export", args=[user]))
    parts = list(response.streaming_content)  # type: ignore[attr-defined]
    assert len(parts) <= 6
    assert len(json.loads(b"".join(parts))["submissions"]) == 40
    assert not models.PersonExport.objects.exists()


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch, sent: list[str]) -> uuid.UUID:
    monkeypatch.setattr(export_jobs, "DIRECT", 5)
    monkeypatch.setattr(export, "BATCH", 4)
    return person(12)


def officer() -> Client:
    client = Client()
    client.force_login(api_client.staff("dpo"))
    return client


@pytest.mark.django_db
def test_large_export_is_made_by_a_worker_and_downloaded(large: uuid.UUID, sent: list[str]) -> None:
    client, page = officer(), reverse("admin:backoffice_user_exports", args=[large])
    assert client.post(reverse("admin:backoffice_user_export", args=[large])).headers["Location"] == page
    assert sent == [export_jobs.TASK]
    assert "Waiting for a worker" in client.get(page).content.decode()
    (row,) = export_jobs.of(large)
    address = reverse("admin:backoffice_user_exported", args=[large, row.pk])
    assert client.post(address).status_code == 302, "not finished"
    tasks.make_export(str(row.pk))
    part = client.get(f"{page}?fragment=1").content.decode()
    assert "Finished" in part
    assert "<h1>" not in part
    (row,) = export_jobs.of(large)
    assert (row.records, row.expected, row.percent) == (14, 14, 99)
    made = json.loads(b"".join(client.post(address).streaming_content))  # type: ignore[attr-defined]
    assert [one["answers"] for one in made["submissions"]] == [{"q": SECRET}] * 12
    assert made == document(large) | {"audit": made["audit"], "head": made["head"]}
    ways = [event.data["way"] for event in store.read_stream(f"privacy-{large}")]
    assert ways == ["admin", "download"]
    assert client.get(address).status_code == 405
    client.post(address, {"delete": "1"})
    assert not models.PersonExportPart.objects.exists()
    assert client.post(address).status_code == 404


@pytest.mark.django_db
def test_interrupted_export_continues_with_its_next_part(large: uuid.UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    row = export_jobs.request(models.User.objects.get(pk=large))
    assert export_jobs.request(models.User.objects.get(pk=large)) == row, "an unfinished one is continued"
    real, made = export.part, []

    def failing(user: Any, place: Any, reads: ExportReads) -> export.Part:
        made.append(place)
        if len(made) == 3:
            raise OSError("disk")
        return real(user, place, reads)

    monkeypatch.setattr(export, "part", failing)
    with pytest.raises(OSError, match="disk"):
        export_jobs.make(row.pk)
    assert export_jobs.of(large)[0].error == "OSError"
    assert (
        "a worker continues it"
        in officer().get(reverse("admin:backoffice_user_exports", args=[large])).content.decode()
    )
    export_jobs.make(row.pk)
    assert made[2] == made[3]
    assert len(made) == len({str(place) for place in made}) + 1
    monkeypatch.undo()
    done = export_jobs.of(large)[0]
    assert json.loads(b"".join(export_jobs.download(done)))["submissions"] == document(large)["submissions"]


@pytest.mark.django_db
def test_lost_export_is_continued_and_an_old_one_deleted(large: uuid.UUID, sent: list[str]) -> None:
    row = export_jobs.request(models.User.objects.get(pk=large))
    sent.clear()
    assert export_jobs.resume() == 0, "its task has just been sent"
    models.PersonExport.objects.update(updated_at=timezone.now() - export_jobs.SILENT)
    assert tasks.resume_exports() == 1
    assert sent == [export_jobs.TASK]
    export_jobs.make(row.pk)
    assert export_jobs.resume() == 0
    models.PersonExport.objects.update(requested_at=timezone.now() - export_jobs.KEPT)
    export_jobs.resume()
    assert (models.PersonExport.objects.count(), models.PersonExportPart.objects.count()) == (0, 0)


@pytest.mark.django_db(transaction=True)
def test_worker_leaves_an_export_to_the_one_that_makes_it(large: uuid.UUID) -> None:
    row = export_jobs.request(models.User.objects.get(pk=large))
    with psycopg.connect(**health.parameters()) as other:
        other.execute("select from person_exports for update")
        assert not export_jobs.advance(row.pk, ExportReads())
    assert export_jobs.advance(row.pk, ExportReads())


WAITS: Final = "select 1 from pg_locks where not granted and pg_backend_pid() = any(pg_blocking_pids(pid))"


@pytest.mark.django_db(transaction=True)
def test_export_deleted_while_a_part_is_made_leaves_none(large: uuid.UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    row, real = export_jobs.request(models.User.objects.get(pk=large)), export.part
    deletions: list[factories.Thread] = []

    def part(user: Any, place: Any, reads: ExportReads) -> export.Part:
        deletions.append(factories.Thread(lambda: export_jobs.delete([row.pk])))
        assert processes.wait_until(lambda: bool(store.query(WAITS)), 30)
        return real(user, place, reads)

    with monkeypatch.context() as patched:
        patched.setattr(export, "part", part)
        assert export_jobs.advance(row.pk, ExportReads())
    deletions[0].result()
    assert (models.PersonExport.objects.count(), models.PersonExportPart.objects.count()) == (0, 0)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("erased", ["user", "form", "submission"])
def test_erasure_deletes_the_exports_that_contain_it(large: uuid.UUID, erased: str) -> None:
    row = export_jobs.request(models.User.objects.get(pk=large))
    other = export_jobs.request(models.User.objects.get(pk=person(1)))
    export_jobs.make(row.pk)
    contents = models.PersonExportPart.objects.values_list("content", flat=True)
    assert all(SECRET.encode() not in bytes(content) for content in contents), "encrypted"
    form = models.Form.objects.get(user_id=large)
    answer = models.Submission.objects.filter(form=form)[0]
    data = {"user": users.EraseUser(), "form": forms.EraseForm(), "submission": submissions.EraseSubmission()}
    key = {"user": large, "form": form.pk, "submission": answer.pk}[erased]
    commands.dispatch(factories.command(data[erased], key, reason="asked"))
    purging.finish()
    assert list(models.PersonExport.objects.values_list("pk", flat=True)) == [other.pk]
    assert not models.PersonExportPart.objects.exists()
    assert not export_jobs.advance(row.pk, ExportReads()), "the worker stops"


@pytest.mark.django_db(transaction=True)
def test_export_made_while_answers_are_purged_is_deleted(large: uuid.UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasure, "AT_ONCE", 0)
    monkeypatch.setattr(purging, "BATCH", 5)
    user = models.User.objects.get(pk=large)
    commands.dispatch(factories.command(forms.EraseForm(), models.Form.objects.get(user_id=large).pk, reason="asked"))

    def stop(step: str, _rows: int) -> None:
        if step == "answers of submissions":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        purging.finish(report=stop)
    row = export_jobs.request(user)
    export_jobs.make(row.pk)
    assert SECRET.encode() in b"".join(export_jobs.download(models.PersonExport.objects.get(pk=row.pk)))
    purging.finish()
    assert left(large) == 0
    assert not models.PersonExport.objects.exists()
    assert not models.PersonExportPart.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("role", api_client.ROLES)
def test_only_those_who_may_export_see_exports(large: uuid.UUID, role: str) -> None:
    row = export_jobs.request(models.User.objects.get(pk=large))
    client = Client()
    client.force_login(api_client.staff(role))
    expected = 200 if role in ("admin", "dpo") else 403
    assert client.get(reverse("admin:backoffice_user_exports", args=[large])).status_code == expected
    address = reverse("admin:backoffice_user_exported", args=[large, row.pk])
    assert client.post(address).status_code == (302 if expected == 200 else 403)
    other = reverse("admin:backoffice_user_exported", args=[factories.user(), row.pk])
    assert client.post(other).status_code == (404 if expected == 200 else 403)
    form = models.Form.objects.get(user_id=large).pk
    assert client.get(reverse("admin:backoffice_form_exports", args=[form])).status_code == 403


@pytest.mark.django_db
def test_export_waits_while_the_queue_is_away(large: uuid.UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_arguments: Any, **_named: Any) -> None:
        raise OSError

    monkeypatch.setattr(current_app, "send_task", away)
    response = officer().post(reverse("admin:backoffice_user_export", args=[large]), follow=True)
    assert "The task queue does not respond" in response.content.decode()
    assert models.PersonExport.objects.filter(user_id=large, finished_at=None).count() == 1
    with pytest.raises(jobs.QueueUnavailable):
        jobs.send("anything")
