"""`manage.py import_submissions`: each export becomes forms and submissions once."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from django.core.management import CommandError, call_command

from backoffice import models
from backoffice.sections.forms import domain as forms
from backoffice.sections.imports import run
from backoffice.sections.submissions import domain as submissions
from backoffice.sections.users import domain as users
from devtools.samples.generate import World
from events import commands, encoding, head
from events.models import StoredEvent
from events.types import Command

DATA = Path(os.environ.get("SHARED_DATA", Path(__file__).parents[4] / "shared" / "data")) / "surveys"
SAMPLES = {"comma-survey": 1129, "flying-etiquette": 1040, "masculinity-survey": 1615, "star-wars": 1186}
HEADER = "RespondentID,StartDate,EndDate,Colour,Age\n"
LINES = [
    "11,5/13/18 4:01,5/13/18 4:06,Red,33\n",
    "12,5/14/18 4:01,5/14/18 4:02,Blue,44\n",
    "13,5/15/18 4:01,5/15/18 4:00,Red,\n",
    "14,5/15/18 4:01,,Blue,55\n",
]

pytestmark = pytest.mark.django_db(transaction=True)


_before: list[int] = [0]


@pytest.fixture(autouse=True)
def owner() -> uuid.UUID:
    """Creates an owner. The log cannot be emptied between tests, so tests count the events from here on."""
    _before[0] = head.last()
    key = uuid.uuid4()
    data = users.CreateUser(email="owner@example.org", first_name="Olive", last_name="Owner")
    commands.dispatch(Command(id=uuid.uuid4(), key=str(key), data=data))
    return key


@pytest.fixture
def export(tmp_path: Path) -> Any:
    """Returns a function that writes an export, by default of `HEADER` and `LINES`, and returns its path."""

    def write(*lines: str, header: str = HEADER, name: str = "export.csv") -> Path:
        path = tmp_path / name
        path.write_text(header + "".join(lines or LINES))
        return path

    return write


def importing(path: Path, *options: str, form: str = "A survey", owner: str = "owner@example.org") -> str:
    out = io.StringIO()
    call_command("import_submissions", str(path), "--form", form, "--owner", owner, *options, stdout=out, stderr=out)
    return out.getvalue()


def summary(path: Path, *options: str, **named: str) -> dict[str, Any]:
    return json.loads(importing(path, "--json", *options, **named))


def received() -> int:
    return StoredEvent.objects.filter(type="submission.received", position__gt=_before[0]).count()


def the_form() -> models.Form:
    return models.Form.objects.get()


def update(form: models.Form, fields: list[dict[str, Any]]) -> None:
    data = forms.UpdateForm(fields=fields)
    commands.dispatch(Command(id=uuid.uuid4(), key=str(form.pk), data=data))


# ── created records ──


def test_export_becomes_one_form_and_a_submission_for_each_row(export: Any, owner: uuid.UUID) -> None:
    importing(export())
    form = the_form()
    assert (form.title, form.user_id, form.description) == ("A survey", owner, "Imported from export.csv")
    assert [(made["id"], made["type"]) for made in form.fields] == [
        ("colour", "single_choice"),
        ("age", "integer"),
        ("respondentid", "text"),
    ]
    rows = models.Submission.objects.order_by("started_at", "created_at")
    assert [row.completion_time for row in rows] == [300, 60, None, None]
    first = rows[0]
    assert first.answers == {"colour": "Red", "age": 33, "respondentid": "11"}
    assert (first.started_at.isoformat(), first.created_at.isoformat()) == (
        "2018-05-13T04:01:00+00:00",
        "2018-05-13T04:06:00+00:00",
    )
    assert received() == 4


def test_fields_have_the_agreed_shape(export: Any) -> None:
    importing(export())
    for made in the_form().fields:
        assert {"id", "type", "label", "help", "required", "options", "page"} <= made.keys()


def test_every_event_names_the_import_as_its_actor(export: Any) -> None:
    importing(export())
    actors = (
        StoredEvent.objects.filter(position__gt=_before[0]).exclude(type="user.created").values_list("actor", flat=True)
    )
    assert set(actors) == {"command:import_submissions"}


def test_warnings_name_lines(export: Any) -> None:
    assert "line 4" in importing(export())


def test_dry_run_shows_the_form_and_writes_nothing(export: Any) -> None:
    before = StoredEvent.objects.count()
    shown = importing(export(), "--dry-run")
    assert "Colour" in shown
    assert "integer" in shown
    assert "Would add 4 of 4" in shown
    assert StoredEvent.objects.count() == before


def test_json_report_is_complete(export: Any) -> None:
    said = summary(export())
    assert (said["added"], said["already_there"], said["rows"], said["respondent"]) == (4, 0, 4, "A")
    assert said["form"]["id"] == str(the_form().pk)
    assert said["fields"][0]["columns"] == ["D"]


# ── once ──


def test_repeated_import_adds_nothing(export: Any) -> None:
    importing(export())
    events = StoredEvent.objects.count()
    said = summary(export())
    assert (said["added"], said["already_there"]) == (0, 4)
    assert StoredEvent.objects.count() == events


def test_renamed_reordered_and_extended_export_adds_only_new_rows(export: Any) -> None:
    importing(export())
    more = "15,5/16/18 4:01,5/16/18 4:05,Green,21\n"
    said = summary(export(LINES[2], more, *LINES[:2], LINES[3], name="other.csv"))
    assert (said["added"], said["already_there"]) == (1, 4)
    assert received() == 5


def test_equal_rows_without_respondent_ids_are_kept_and_added_once(export: Any) -> None:
    lines = ["Red,1\n", "Red,1\n", "Blue,2\n"]
    assert summary(export(*lines, header="Colour,n\n"))["added"] == 3
    assert summary(export(*lines, "Red,1\n", "Blue,3\n", header="Colour,n\n"))["added"] == 2
    assert received() == 5


def test_answer_that_changes_the_type_of_a_column_adds_only_the_new_row(export: Any) -> None:
    importing(export())
    said = summary(export(*LINES, "15,5/16/18 4:01,5/16/18 4:05,Green,old\n"))
    assert said["added"] == 1
    assert any("integer in the form" in warning for warning in said["warnings"])


def test_interrupted_import_is_completed_by_the_next_run(export: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The import is interrupted between two chunks, each of which is a transaction."""
    monkeypatch.setattr(run, "CHUNK", 2)
    monkeypatch.setattr(run, "WRITERS", 1)
    path = export()
    calls: list[int] = []

    def stop(count: int) -> None:
        calls.append(count)
        raise KeyboardInterrupt

    from backoffice.sections.imports import rows

    plan = rows.plan(path.read_bytes())
    with pytest.raises(KeyboardInterrupt):
        run.carry_out(plan, run.destination(plan, "A survey", "owner@example.org"), progress=stop)
    assert (calls, received()) == ([2], 2)
    said = summary(path)
    assert (said["added"], said["already_there"], received()) == (2, 2, 4)


def test_deleted_submission_is_not_restored(export: Any) -> None:
    importing(export())
    gone = models.Submission.objects.first()
    assert gone is not None
    commands.dispatch(Command(id=uuid.uuid4(), key=str(gone.pk), data=submissions.DeleteSubmission()))
    assert summary(export())["added"] == 0
    assert received() == 4


def test_two_forms_of_one_file_do_not_share_submissions(export: Any) -> None:
    importing(export())
    assert summary(export(), form="Another")["added"] == 4


# ── existing forms ──


def test_changes_by_staff_are_kept(export: Any) -> None:
    importing(export())
    fields = the_form().fields
    fields[0] |= {"label": "Favourite colour", "help": "of all"}
    update(the_form(), fields)
    assert summary(export(*LINES, "15,5/16/18 4:01,,Green,9\n"))["added"] == 1
    assert the_form().fields == fields


def test_new_questions_are_added_to_the_form(export: Any) -> None:
    importing(export())
    header = HEADER.replace("\n", ",City\n")
    lines = [line.replace("\n", ",\n") for line in LINES]
    assert summary(export(*lines, "15,5/16/18 4:01,,Green,9,Rome\n", header=header))["added"] == 1
    assert [made["id"] for made in the_form().fields] == ["colour", "age", "respondentid", "city"]


def test_field_removed_by_staff_refuses_the_import_by_name(export: Any) -> None:
    importing(export())
    update(the_form(), [made for made in the_form().fields if made["id"] != "age"])
    with pytest.raises(CommandError, match="“Age”"):
        importing(export(*LINES, "15,5/16/18 4:01,,Green,9\n"))
    assert received() == 4


def test_deleted_form_refuses_the_import(export: Any) -> None:
    importing(export())
    commands.dispatch(Command(id=uuid.uuid4(), key=str(the_form().pk), data=forms.DeleteForm()))
    with pytest.raises(CommandError, match="deleted"):
        importing(export())


# ── refused ──


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("15,x,y,Red,1,surplus\n", "line 6, column 6"),
        ('15,,,"Red,1\n', "line 6, column 4"),
        ("15,,,R\0d,1\n", "line 6"),
    ],
)
def test_invalid_last_line_prevents_every_write(export: Any, line: str, place: str) -> None:
    before = StoredEvent.objects.count()
    with pytest.raises(CommandError, match=rf"^export\.csv: {place}"):
        importing(export(*LINES, line))
    assert StoredEvent.objects.count() == before


def events_now() -> int:
    return StoredEvent.objects.count()


BAD_TIMES = "id,Submitted at,Colour\n" + "".join(f"{n},2024-03-01 10:00:00,Red\n" for n in range(1, 3001))


@pytest.mark.parametrize("options", [["--dry-run"], []], ids=["dry run", "real run"])
class TestRefusedValues:
    """Values that the domain or the store refuses are found before the first write, in dry and real runs."""

    def refused(self, path: Path, *options: str) -> str:
        before = events_now()
        with pytest.raises(CommandError) as caught:
            importing(path, *options)
        assert events_now() == before
        return str(caught.value)

    def test_value_after_thousands_of_valid_rows_is_named_by_line_and_column(
        self, export: Any, options: list[str]
    ) -> None:
        path = export(
            *BAD_TIMES.splitlines(keepends=True)[1:],
            "3001,1850-01-01 10:00:00,Red\n",
            header="id,Submitted at,Colour\n",
        )
        said = self.refused(path, *options)
        assert "line 3002, column 2 (“Submitted at”): The year must be between 1900 and 9000." in said

    def test_invalid_start_time_is_named(self, export: Any, options: list[str]) -> None:
        lines = ["1,1850-01-01 10:00:00,2024-01-01 10:00:00,x\n", "2,2024-01-01 10:00:00,2024-01-01 10:00:00,x\n"]
        said = self.refused(export(*lines, header="id,Start time,End time,a\n"), *options)
        assert "line 2, column 2 (“Start time”)" in said

    def test_many_values_are_counted_and_the_first_are_named(self, export: Any, options: list[str]) -> None:
        lines = [f"{n},1850-01-01 10:00:00,x\n" for n in range(1, 51)]
        said = self.refused(export(*lines, header="id,Submitted at,a\n"), *options)
        assert "50 values cannot be stored" in said
        assert [f"line {n}," in said for n in (2, 21, 22)] == [True, True, False]
        assert "and 30 more" in said

    def test_more_questions_than_the_limit_are_refused_with_a_message(self, export: Any, options: list[str]) -> None:
        names = ",".join(f"v{n:04}x" for n in range(1, 1100))
        said = self.refused(export(",".join("x" for _ in range(1, 1100)) + "\n", header=f"{names}\n"), *options)
        assert "at most 1" in said
        assert "fields" in said

    def test_form_that_would_exceed_the_size_of_an_event_is_refused(self, export: Any, options: list[str]) -> None:
        importing(export())
        update(the_form(), [*the_form().fields, *({"id": f"x{n}", "type": "text", "label": "x"} for n in range(120))])
        fields = the_form().fields
        room = encoding.MAX_EVENT_BYTES - 1_500 - len(msgspec.json.encode(fields))
        helps = [{"help": "x" * min(9_000, max(room - n * 9_000, 0))} for n in range(120)]
        update(the_form(), [*fields[:-120], *(field | more for field, more in zip(fields[-120:], helps, strict=True))])
        header = HEADER.replace("\n", f",{'City' * 300}\n")
        said = self.refused(export(*[line.replace("\n", ",Rome\n") for line in LINES], header=header), *options)
        assert "bytes; at most" in said

    def test_archived_form_accepts_no_rows(self, export: Any, options: list[str]) -> None:
        importing(export())
        archive = forms.UpdateForm(archived=True)
        commands.dispatch(Command(id=uuid.uuid4(), key=str(the_form().pk), data=archive))
        assert "archived" in self.refused(export(*LINES, "15,5/16/18 4:01,,Green,9\n"), *options)

    def test_invalid_value_of_a_correction_is_refused(self, export: Any, options: list[str]) -> None:
        header = "id,Submitted at,a\n"
        importing(export("1,2024-01-01 10:00:00,x\n", header=header))
        path = export("1,1850-01-01 10:00:00,x\n", header=header)
        assert "line 2, column 2" in self.refused(path, "--update", *options)

    def test_unknown_owner_is_refused_with_a_remedy(self, export: Any, options: list[str]) -> None:
        before = events_now()
        with pytest.raises(CommandError, match=r"nobody@example\.org.*user\.create"):
            importing(export(), *options, owner="nobody@example.org")
        assert events_now() == before


def test_unknown_owner_is_named_and_not_created(export: Any) -> None:
    with pytest.raises(CommandError, match=r"nobody@example\.org"):
        importing(export(), owner="nobody@example.org")
    assert models.User.objects.count() == 1
    assert received() == 0


def test_missing_file_is_reported_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"nowhere\.csv: No such file"):
        importing(tmp_path / "nowhere.csv")


@pytest.mark.parametrize("title", ["  ", "x" * 301])
def test_invalid_title_is_refused(export: Any, title: str) -> None:
    with pytest.raises(CommandError, match="title"):
        importing(export(), form=title)


# ── as documented ──


ROOT = Path(__file__).parents[3]
COMMAND = re.compile(r"^\.venv/bin/python manage\.py (import_submissions (?:.*\\\n)*.*)$", re.MULTILINE)


@pytest.mark.parametrize("page", ["README.md", "docs/imports.md"])
def test_documented_commands_work_as_written(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands run in the project's folder, for the first user of the sample data."""
    first = World(1, 0, 0, until=datetime.now(UTC)).user(0)
    assert first.steps == ()
    commands.dispatch(Command(id=uuid.uuid4(), key=str(uuid.uuid4()), data=first.create))
    monkeypatch.chdir(ROOT)
    found = COMMAND.findall((ROOT / page).read_text())
    assert found
    for command in found:
        out = io.StringIO()
        call_command(*shlex.split(command.replace("\\\n", " ")), stdout=out, stderr=out)
        assert "6 of 6 submissions" in out.getvalue()


# ── real exports ──


def test_four_real_exports_are_imported_once() -> None:
    if not DATA.is_dir():
        pytest.skip(f"no real exports at {DATA} (SHARED_DATA names another place)")
    added = {name: summary(DATA / f"{name}.csv", form=name)["added"] for name in SAMPLES}
    assert added == SAMPLES
    assert (received(), models.Submission.objects.count(), models.Form.objects.count()) == (4970, 4970, 4)
    assert [summary(DATA / f"{name}.csv", form=name)["added"] for name in SAMPLES] == [0, 0, 0, 0]
    assert received() == 4970
    timed = models.Submission.objects.filter(form__title="masculinity-survey", completion_time__isnull=False)
    assert timed.count() == 1595
