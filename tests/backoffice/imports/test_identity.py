"""Identity of rows: keyed ids, one identity column for every export, corrections, erasure."""

from __future__ import annotations

import io
import json
import unicodedata
import uuid
from collections.abc import Iterable
from hashlib import sha1
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from backoffice import models
from backoffice.sections.forms import domain as forms
from backoffice.sections.imports import destinations, rows
from backoffice.sections.submissions import domain as submissions
from backoffice.sections.users import domain as users
from events import commands, context, errors, store
from events.models import StoredEvent
from events.privacy import master_keys, pseudonyms, subject_keys
from tests import factories
from tests.backoffice import api_client

pytestmark = pytest.mark.django_db(transaction=True)

OWNER = "owner@example.org"
TALLY = "Submission ID,Respondent ID,Submitted at,Comment\n"
MAIL = "Email,Allergy\nanna@example.org,nuts\nbert@example.org,none\n"
MORE_MAIL = "Email,Allergy,Newsletter\nanna@example.org,nuts,yes\nbert@example.org,none,no\ncy@example.org,none,no\n"

UNDATED = "no column says when the submissions were made; they get the time of the import"


@pytest.fixture(autouse=True)
def owner() -> uuid.UUID:
    return factories.user(email=OWNER)


class Importer:
    """Writes a text to a file and imports it; returns the report of the command."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "export.csv"

    def __call__(self, text: str, *options: str, form: str = "Survey") -> dict[str, Any]:
        self.path.write_text(text, encoding="utf-8")
        out = io.StringIO()
        arguments = ["import_submissions", str(self.path), "--form", form, "--owner", OWNER, "--json", *options]
        call_command(*arguments, stdout=out, stderr=out)
        said: dict[str, Any] = json.loads(out.getvalue())
        return said


@pytest.fixture
def importing(tmp_path: Path) -> Importer:
    return Importer(tmp_path)


def tally(*answers: tuple[int, int, str]) -> str:
    """Returns a Tally export; each answer is (number of the submission, number of the respondent, text)."""
    return TALLY + "".join(f"s{n:02},r{m:02},2024-03-{n:02} 10:00:00,{text}\n" for n, m, text in answers)


def first(upto: int) -> list[tuple[int, int, str]]:
    return [(n, n, f"first {n}") for n in range(upto, 0, -1)]


def answers(field: str) -> list[Any]:
    return sorted(row.answers.get(field) for row in models.Submission.objects.all())


def warned(said: dict[str, Any], text: str) -> str:
    found = [warning for warning in said["warnings"] if text in warning]
    assert len(found) == 1, said["warnings"]
    return str(found[0])


def erase(submission: uuid.UUID) -> None:
    commands.dispatch(factories.command(submissions.EraseSubmission(), submission, reason="asked"))


def submission_of(field: str, value: Any) -> uuid.UUID:
    key: uuid.UUID = next(row.pk for row in models.Submission.objects.all() if row.answers.get(field) == value)
    return key


# ── the identity column ──────────────────────────────────────────────────────────────────────────────────────────────


def test_each_answer_of_a_repeated_respondent_is_one_submission(importing: Importer) -> None:
    assert importing(tally(*first(12)))["added"] == 12
    again = [(n, n - 13, f"second {n - 13}") for n in (16, 15, 14)]
    said = importing(tally(*again, *first(12)))
    assert (said["added"], said["already_there"]) == (3, 12)
    assert models.Submission.objects.count() == 15


def test_submission_id_is_preferred_to_the_respondent_id() -> None:
    plan = rows.plan(tally(*first(12)).encode())
    assert plan.respondent is not None
    assert plan.respondent.label == "Submission ID"


@pytest.mark.parametrize("newest_first", [True, False])
def test_respondent_without_submission_ids_answers_again(importing: Importer, newest_first: bool) -> None:
    """Half of the ids repeat then and look like answers, but the form has the column marked as identity."""

    def text(lines: Iterable[str]) -> str:
        ordered = list(lines)
        return "Respondent ID,Comment\n" + "".join(reversed(ordered) if newest_first else ordered)

    before = [f"r{n},first {n}\n" for n in range(6)]
    after = [f"r{n},second {n}\n" for n in range(6)]
    assert importing(text(before))["added"] == 6
    said = importing(text([*before, *after]))
    assert (said["added"], said["already_there"], said["warnings"]) == (6, 6, [UNDATED])
    said = importing(text([*before, *after]))
    assert (said["added"], said["already_there"]) == (0, 12)


def test_file_without_the_id_column_of_the_form_is_refused(importing: Importer) -> None:
    importing(tally(*first(3)))
    with pytest.raises(CommandError, match="no column “Submission ID”"):
        importing("Comment,Submitted at\nfirst 1,2024-03-01 10:00:00\n")
    assert models.Submission.objects.count() == 3


def test_composed_and_decomposed_letters_are_the_same_row(importing: Importer) -> None:
    text = "Prénom,Ville,Note\nZoé,Nîmes,n1\nZoé,Évry,n2\nZoé,Nîmes,n3\n"
    assert importing(unicodedata.normalize("NFC", text))["added"] == 3
    said = importing(unicodedata.normalize("NFD", text))
    assert (said["added"], said["already_there"]) == (0, 3)


def test_records_that_repeat_for_each_visit_are_kept_apart_and_added_once(importing: Importer) -> None:
    visits = "".join(f"{n},visit_{v},2024-0{v}-1{n},6{n}.{v}\n" for n in range(1, 5) for v in (1, 2, 3))
    text = f"record_id,redcap_event_name,visit_date,weight\n{visits}"
    assert importing(text)["added"] == 12
    assert (importing(text)["added"], models.Submission.objects.count()) == (0, 12)


def test_later_question_does_not_make_old_rows_new(importing: Importer) -> None:
    """Rows without ids are identified by their content, with the questions that the form had at that time."""
    importing(MAIL)
    said = importing(MORE_MAIL)
    assert (said["added"], said["already_there"]) == (1, 2)
    assert "lines 2, 3" in warned(said, "other content")
    again = importing(MORE_MAIL)
    assert (again["added"], again["already_there"]) == (0, 3)
    assert importing(MORE_MAIL, "--update")["corrected"] == 2
    assert answers("newsletter") == ["no", "no", "yes"]
    assert importing(MORE_MAIL)["warnings"] == [UNDATED]


def test_many_equal_rows_are_matched_in_linear_time(importing: Importer, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    query = store.query

    def counting(statement: str, *parameters: Any) -> Any:
        reads.append("from submissions" in statement)
        return query(statement, *parameters)

    lines = "same,x\n" * 3000
    importing(f"Colour,Size\n{lines}")
    monkeypatch.setattr(store, "query", counting)
    said = importing(f"Colour,Size\n{lines}same,x\n")
    assert (said["added"], said["already_there"]) == (1, 3000)
    assert sum(reads) < 20


# ── other content ────────────────────────────────────────────────────────────────────────────────────────────────────


def restarted(year: int, season: str) -> str:
    lines = "".join(f"{n},{year}-03-0{n} 10:00:00,en,{season} {n}\n" for n in range(1, 7))
    return f"id,submitdate,startlanguage,Q1\n{lines}"


def test_reused_ids_are_reported_by_line_and_overwrite_nothing(importing: Importer) -> None:
    importing(restarted(2023, "spring"))
    said = importing(restarted(2024, "autumn"))
    assert (said["added"], said["already_there"], said["corrected"]) == (0, 6, 0)
    assert "lines 2, 3, 4, 5, 6, 7" in warned(said, "other content")
    assert answers("q1") == [f"spring {n}" for n in range(1, 7)]


def test_update_corrects_answers_and_times_and_keeps_what_the_file_lacks(importing: Importer) -> None:
    importing("id,submitdate,Q1,Q2\n1,2024-03-01 10:00:00,one,kept\n2,2024-03-02 10:00:00,two,\n")
    changed = "id,submitdate,Q1\n1,2024-03-01 11:00:00,uno\n2,2024-03-02 10:00:00,two\n"
    dry = importing(changed, "--update", "--dry-run")
    assert (dry["to_correct"], dry["to_add"]) == (1, 0)
    assert importing(changed, "--update")["corrected"] == 1
    row = models.Submission.objects.get(pk=submission_of("q1", "uno"))
    assert (row.answers, row.created_at.hour, row.version) == ({"q1": "uno", "q2": "kept", "id": "1"}, 11, 2)
    event = store.read_stream(f"submission-{row.pk}")[-1]
    assert (event.type, event.actor) == ("submission.corrected", "command:import_submissions")
    assert importing(changed, "--update")["corrected"] == 0


def test_corrected_row_is_corrected_again(importing: Importer) -> None:
    for text in ("one", "two", "one", "two"):
        importing(f"id,Q1\n1,{text}\n2,x\n", "--update")
        assert answers("q1") == sorted([text, "x"])


def test_update_leaves_submissions_deleted_by_staff(importing: Importer) -> None:
    importing("id,Q1\n1,one\n2,two\n")
    commands.dispatch(factories.command(submissions.DeleteSubmission(), submission_of("q1", "one")))
    said = importing("id,Q1\n1,uno\n2,two\n", "--update")
    assert (said["corrected"], said["added"], answers("q1")) == (0, 0, ["one", "two"])


def test_dry_run_reports_the_same_rows_as_the_real_run(importing: Importer) -> None:
    importing(restarted(2023, "spring"))
    dry, real = importing(restarted(2024, "autumn"), "--dry-run"), importing(restarted(2024, "autumn"))
    assert dry["warnings"] == real["warnings"]


# ── the form's types ─────────────────────────────────────────────────────────────────────────────────────────────────


def colours(*cells: str) -> str:
    return "Timestamp,Colours\n" + "".join(f"2024-03-{n:02} 10:00:00,{cell}\n" for n, cell in enumerate(cells, 1))


def test_later_rows_are_read_under_the_types_of_the_form(importing: Importer) -> None:
    start = ("Red", "Blue", '"Green, Red"', "Blue", "Red", "Blue")
    importing(colours(*start))
    later = ("Red", "Green", "Green", '"Blue, Red"', "Red", "Green")
    said = importing(colours(*start, *later))
    assert (said["added"], said["already_there"]) == (6, 6)
    field = next(made for made in models.Form.objects.get().fields if made["id"] == "colours")
    assert {type(row.answers["colours"]) for row in models.Submission.objects.all()} == {
        list if field["type"] == "multiple_choice" else str
    }


def test_options_in_one_cell_are_split_where_the_form_has_several(importing: Importer) -> None:
    importing(colours("Red;Blue;", "Blue;", "Red;", "Green;Red;", "Blue;", "Green;"))
    assert {made["id"]: made["type"] for made in models.Form.objects.get().fields}["colours"] == "multiple_choice"
    said = importing("Timestamp,Colours\n2024-04-01 10:00:00,Red;Green;\n2024-04-02 10:00:00,Blue\n")
    assert said["added"] == 2
    assert [one for one in answers("colours") if one in (["Blue"], ["Red", "Green"])][-2:] == [
        ["Blue"],
        ["Red", "Green"],
    ]


def test_cell_that_does_not_fit_the_forms_type_is_kept_as_text_and_reported(importing: Importer) -> None:
    importing("id,Age\n1,30\n2,41\n3,52\n")
    said = importing("id,Age\n4,33\n5,unknown\n")
    assert "line 3" in warned(said, "“Age” is integer in the form")
    assert {row.answers["age"] for row in models.Submission.objects.all()} == {30, 41, 52, 33, "unknown"}


# ── ids without a testable guess ──


def guesses(form_id: uuid.UUID, owner: uuid.UUID, title: str, email: str) -> set[uuid.UUID]:
    """Returns ids as they would be without a key: plain hashes of guesses, in the namespaces that readers know."""
    texts = [f"form\x1f{owner}\x1f{title}", f"respondent\x1f{email}", f"content\x1femail\x1e1\x1e{email}", email]
    texts += [f"submission\x1f{text}\x1f1" for text in texts]
    spaces = [form_id, destinations.NAMESPACE, owner, uuid.UUID(int=0)]
    return {
        uuid.UUID(bytes=sha1(space.bytes + text.encode()).digest()[:16], version=5)
        for space in spaces
        for text in texts
    }


def ids_in_log() -> set[uuid.UUID]:
    found: set[uuid.UUID] = set()
    for event in StoredEvent.objects.filter(actor="command:import_submissions"):
        key = event.stream.partition("-")[2]
        found |= {uuid.UUID(key), event.event_id, *filter(None, (event.correlation_id, event.causation_id))}
    return found | {row[0] for row in store.query("select id from events_command")}


def test_no_id_of_an_import_is_a_hash_of_a_guess(importing: Importer, owner: uuid.UUID) -> None:
    importing("Email,Note\nanna@example.org,x\n", form="Secret title")
    form = models.Form.objects.get()
    assert form.pk.version == 8
    assert {row.pk.version for row in models.Submission.objects.all()} == {8}
    assert not ids_in_log() & guesses(form.pk, owner, "Secret title", "anna@example.org")
    old = uuid.uuid5(form.pk, "content\x1femail\x1e1\x1eanna@example.org\x1fnote\x1e1\x1ex")
    assert not ids_in_log() & {old, uuid.uuid5(old, "receive")}


def test_key_of_the_ids_is_erased_with_the_owner(importing: Importer, owner: uuid.UUID) -> None:
    importing(MAIL)
    form = models.Form.objects.get()
    assert pseudonyms.of(f"form-{form.pk}") is not None
    commands.dispatch(factories.command(users.EraseUser(), owner, reason="asked"))
    for subject in (f"form-{form.pk}", f"user-{owner}"):
        with pytest.raises(errors.Erased):
            pseudonyms.of(subject)
        with pytest.raises(errors.Erased):
            pseudonyms.make(subject)


def test_ids_survive_a_change_of_the_master_key_and_the_secret_key(importing: Importer, settings: Any) -> None:
    from events.privacy import erasure

    importing(tally(*first(3)))
    importing(MAIL, form="By content")
    settings.SECRET_KEY = "x" * 50
    settings.PRIVACY_KEYS = {"next": bytes(range(32)), **settings.PRIVACY_KEYS}
    erasure.rotate()
    settings.PRIVACY_KEYS = {"next": settings.PRIVACY_KEYS["next"]}
    subject_keys.CACHE.clear()
    assert master_keys.current() == "next"
    assert (importing(tally(*first(3)))["added"], importing(MAIL, form="By content")["added"]) == (0, 0)


# ── erased persons ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_erased_submission_is_not_restored_by_its_own_row(importing: Importer) -> None:
    importing(MAIL)
    erase(submission_of("email", "anna@example.org"))
    said = importing(MAIL)
    assert (said["added"], said["erased"]) == (0, 1)
    warning = warned(said, "erased")
    assert "line 2" in warning
    assert "anna" not in json.dumps(said)


@pytest.mark.parametrize(
    "text",
    [
        MORE_MAIL,
        MORE_MAIL.replace("anna@example.org,nuts", "ANNA@example.org ,almonds"),
        "Email,Allergy,Other\nbert@example.org,none,\nx@example.org,a,anna@example.org\ncy@example.org,none,\n",
    ],
    ids=["one answer more", "another answer", "another column"],
)
def test_erased_person_in_the_next_export_is_reported_and_not_restored(importing: Importer, text: str) -> None:
    importing(MAIL)
    erase(submission_of("email", "anna@example.org"))
    line = next(number for number, line in enumerate(text.splitlines(), 1) if "anna@" in line.lower())
    for options in (["--dry-run"], [], ["--update"]):
        said = importing(text, *options)
        assert f"line {line}" in warned(said, "erased")
        assert said["erased"] == 1
        assert "anna" not in json.dumps(said["warnings"]).lower()
    assert "anna" not in str(answers_of_all()).lower()


def answers_of_all() -> list[Any]:
    return [row.answers for row in models.Submission.objects.all()]


def test_erased_text_answer_with_a_new_answer_is_not_restored(importing: Importer) -> None:
    importing("Name,City\nZoé Martin,Nîmes\nAda Byron,London\nGrace Hopper,Arlington\n")
    erase(submission_of("name", "Zoé Martin"))
    said = importing("Name,City,Age\nZoé Martin,Nîmes,30\nAda Byron,London,36\n")
    assert (said["erased"], said["added"]) == (1, 0)
    assert "Zoé" not in str(answers_of_all())


def test_repeated_answer_of_an_erased_respondent_is_reported(importing: Importer) -> None:
    importing("Respondent ID,Comment\nr1,one\nr2,two\n")
    erase(submission_of("respondent_id", "r1"))
    said = importing("Respondent ID,Comment\nr1,one\nr2,two\nr1,again\n")
    assert (said["erased"], said["added"]) == (2, 0)


def test_suppressions_are_digests_that_differ_between_forms(importing: Importer) -> None:
    for form in ("One", "Two"):
        importing(MAIL, form=form)
    for row in list(models.Submission.objects.all()):
        if row.answers["email"] == "anna@example.org":
            erase(row.pk)
    found = store.query("select form_id, digest from import_suppressions")
    assert len({bytes(digest) for _, digest in found}) == len(found) >= 2
    assert len({form for form, _ in found}) == 2


def test_suppressions_of_an_erased_owner_are_purged(importing: Importer, owner: uuid.UUID) -> None:
    importing(MAIL)
    erase(submission_of("email", "anna@example.org"))
    assert models.ImportSuppression.objects.exists()
    commands.dispatch(factories.command(users.EraseUser(), owner, reason="asked"))
    assert not models.ImportSuppression.objects.exists()


def test_submissions_to_other_forms_leave_no_suppressions(owner: uuid.UUID) -> None:
    form = factories.form(owner, fields=[{"id": "email", "type": "email", "label": "Email"}])
    erase(factories.submission(form, email="anna@example.org"))
    assert not models.ImportSuppression.objects.exists()


def test_corrected_answers_are_erased_with_the_submission(importing: Importer) -> None:
    importing("id,Q1\n1,Barnabas\n2,x\n")
    importing("id,Q1\n1,Barnaby\n2,x\n", "--update")
    key = submission_of("q1", "Barnaby")
    erase(key)
    history = [event.data for event in store.read_stream(f"submission-{key}")]
    assert [data.get("answers") for data in history] == [submissions.NO_ANSWERS, submissions.NO_ANSWERS, None]
    assert models.Submission.objects.get(pk=key).answers == submissions.NO_ANSWERS
    stored = store.query("select data::text from events_event where stream = %s", (f"submission-{key}",))
    assert "Barnab" not in str(stored)


# ── imports of older releases ──


def old_import(owner: uuid.UUID, title: str, text: str, names: list[str]) -> None:
    """Writes rows as releases before keyed ids did: UUIDs of version 5, no mark on the identifying field."""
    plan = rows.plan(text.encode())
    form_id = uuid.uuid5(destinations.NAMESPACE, f"form\x1f{owner}\x1f{title}")
    fields = [{name: value for name, value in made.field.items() if name != rows.IDENTITY} for made in plan.fields]
    with context.acting(actor="command:import_submissions"):
        commands.dispatch(factories.command(forms.CreateForm(user_id=owner, title=title, fields=fields), form_id))
        for name, row in zip(names, plan.rows, strict=True):
            data = submissions.ReceiveSubmission(form_id=form_id, answers=row.answers, created_at=row.created_at)
            commands.dispatch(factories.command(data, uuid.uuid5(form_id, name)))


def test_import_of_an_older_release_is_recognised_by_its_ids(importing: Importer, owner: uuid.UUID) -> None:
    text = tally(*first(12))
    old_import(owner, "Survey", text, [f"respondent\x1fr{n:02}" for n in range(12, 0, -1)])
    again = [(n, n - 13, f"second {n - 13}") for n in (16, 15, 14)]
    said = importing(tally(*again, *first(12)))
    assert (said["added"], said["already_there"]) == (3, 12)
    assert (importing(tally(*again, *first(12)))["added"], models.Submission.objects.count()) == (0, 15)
    assert models.Form.objects.count() == 1


def test_import_of_an_older_release_is_recognised_by_its_content(importing: Importer, owner: uuid.UUID) -> None:
    names = [
        f"content\x1fallergy\x1e1\x1e{a}\x1femail\x1e1\x1e{m}@example.org"
        for m, a in (("anna", "nuts"), ("bert", "none"))
    ]
    old_import(owner, "Survey", MAIL, names)
    said = importing(MAIL + "cy@example.org,none\n")
    assert (said["added"], said["already_there"]) == (1, 2)
    assert importing(MAIL + "cy@example.org,none\n")["added"] == 0


def test_erased_submission_of_an_older_release_is_not_restored(importing: Importer, owner: uuid.UUID) -> None:
    names = [
        f"content\x1fallergy\x1e1\x1e{a}\x1femail\x1e1\x1e{m}@example.org"
        for m, a in (("anna", "nuts"), ("bert", "none"))
    ]
    old_import(owner, "Survey", MAIL, names)
    erase(submission_of("email", "anna@example.org"))
    store.query("delete from import_suppressions returning 1")  # that release erased it without suppressions
    said = importing(MAIL)
    assert (said["added"], said["erased"]) == (0, 1)


def test_import_in_the_log_of_another_installation_is_recognised(importing: Importer, owner: uuid.UUID) -> None:
    """Its keys differ, so no id can be derived: the form is found by title, rows by their answers."""
    plan = rows.plan(MAIL.encode())
    form_id = uuid.uuid4()
    with context.acting(actor="command:import_submissions"):
        fields = [made.field for made in plan.fields]
        commands.dispatch(factories.command(forms.CreateForm(user_id=owner, title="Survey", fields=fields), form_id))
        for row in plan.rows:
            commands.dispatch(factories.command(submissions.ReceiveSubmission(form_id=form_id, answers=row.answers)))
    said = importing(MAIL + "cy@example.org,none\n")
    assert (said["added"], said["already_there"], models.Form.objects.count()) == (1, 2, 1)


def test_erased_people_in_the_log_of_another_installation_cause_a_warning(
    importing: Importer, owner: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    importing(MAIL)
    erase(submission_of("email", "anna@example.org"))
    key = pseudonyms.Pseudonyms(bytes(range(32)))  # as if the form came with an imported log: the owner's key differs
    monkeypatch.setattr(pseudonyms, "of", lambda _subject: key)
    assert "cannot be recognised" in warned(importing(MAIL, "--dry-run"), "erased before")


def test_pages_show_a_correction_without_a_restore_button(importing: Importer) -> None:
    """Only the source corrects a submission: its older versions are shown, but staff cannot restore them."""
    importing("id,Q1\n1,before\n2,x\n")
    importing("id,Q1\n1,after\n2,x\n", "--update")
    key = submission_of("q1", "after")
    client = api_client.Caller(api_client.staff("admin")).client
    history = client.get(f"/admin/backoffice/submission/{key}/history/")
    compared = client.get(f"/admin/backoffice/submission/{key}/compare/?a=1&b=2")
    assert [page.status_code for page in (history, compared)] == [200, 200]
    assert "corrected" in history.content.decode()
    assert "before" in compared.content.decode()
    assert "after" in compared.content.decode()
    assert "/restore/" not in history.content.decode()
