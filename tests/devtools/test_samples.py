"""The sample data: reproducible, consistent, realistic, and written once."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from django.core.management import CommandError, call_command

from backoffice.models import Form, Setting, Staff, Submission, User
from backoffice.sections.forms import domain as forms
from devtools.samples import answers, catalogue, generate, load, logins, people
from devtools.samples.generate import World
from devtools.samples.rhythm import Rhythm
from events import head, store, types

UNTIL = datetime(2026, 6, 30, 12, tzinfo=UTC)
RESERVED = re.compile(r"[^@\s]+@(?:[a-z0-9-]+\.)*(?:example\.(?:org|com|net)|example)")


def world(users: int = 60, forms: int = 130, submissions: int = 900, **changes: Any) -> World:
    return World(users, forms, submissions, **{"until": UNTIL, **changes})


def drafts(made: World, kind: str) -> Iterator[generate.Draft]:
    return (made.draft(kind, number) for number in range(made.sizes[kind]))


def everything(made: World) -> list[generate.Draft]:
    return [draft for kind in made.sizes for draft in drafts(made, kind)]


# -- reproducible -----------------------------------------------------------------------------------------------------


def test_seed_determines_all_records() -> None:
    assert everything(world()) == everything(world())
    assert {draft.key for draft in everything(world())}.isdisjoint(draft.key for draft in everything(world(seed=1)))


def test_record_can_be_generated_alone_and_out_of_order() -> None:
    later, alone = world(), world()
    list(drafts(later, "form"))
    assert later.submission(700) == alone.submission(700)


def test_ids_of_records_and_commands_are_unique() -> None:
    made = everything(world())
    ids = [draft.command(number).id for draft in made for number in range(len(draft.steps) + 1)]
    assert len(set(ids)) == len(ids)
    assert len({draft.key for draft in made}) == len(made)


# -- whole ------------------------------------------------------------------------------------------------------------


def test_record_belongs_to_an_older_record_that_is_not_deleted() -> None:
    made = world()
    users = {draft.key: draft for draft in drafts(made, "user")}
    owned = {draft.key: draft for draft in drafts(made, "form")}
    for form in owned.values():
        owner = users[str(form.create.user_id)]
        assert owner.create.created_at <= form.create.created_at <= UNTIL
        assert not any(step.data.__class__.__name__ == "DeleteUser" for step in owner.steps)
    for submission in drafts(made, "submission"):
        form = owned[str(submission.create.form_id)]
        assert form.create.created_at <= submission.create.created_at <= UNTIL
        assert not any(isinstance(step.data, forms.DeleteForm) for step in form.steps)


def test_smallest_data_set_is_consistent() -> None:
    for sizes in ((1, 1, 1), (2, 5, 3), (1, 0, 5), (0, 3, 3)):
        for draft in everything(world(*sizes)):
            assert draft.create.created_at <= UNTIL


# -- realistic --------------------------------------------------------------------------------------------------------


def test_every_address_is_in_a_reserved_domain() -> None:
    text = b"\n".join(msgspec.json.encode((draft.create, draft.steps)) for draft in everything(world())).decode()
    text += msgspec.json.encode([draft.create for draft in generate.settings()]).decode()
    found = re.findall(r"[^\s@\"<]+@[^\s\"<>]+", text)
    assert len(found) > 500
    assert [address for address in found if not RESERVED.fullmatch(address)] == []
    links = set(re.findall(r"https?://([^/\"\s]+)", text))
    assert links <= set(people.DOMAINS)


def test_addresses_stay_unique_beyond_all_combinations_of_names_and_domains() -> None:
    combinations = len(people._EVERYBODY) * len(people.DOMAINS)
    numbers = [*range(20_000), *range(combinations - 500, combinations + 500)]
    addresses = {people.person(number).email for number in numbers}
    assert len(addresses) == len(numbers)
    assert people.person(0).email != people.person(0, seed=3).email


def test_sign_ups_and_submissions_grow_over_the_months() -> None:
    made = world(400, 900, 3000)
    middle = UNTIL - generate.HISTORY / 2
    for kind in ("user", "submission"):
        early = sum(draft.create.created_at < middle for draft in drafts(made, kind))
        assert early * 1.4 < made.sizes[kind] - early


def test_submissions_follow_the_week_and_the_day() -> None:
    times = [draft.create.created_at for draft in drafts(world(submissions=4000), "submission")]
    days, hours = Counter(time.weekday() for time in times), Counter(time.hour for time in times)
    assert max(days[5], days[6]) < 0.7 * min(days[0], days[1], days[2])
    assert sum(hours[hour] for hour in range(5)) < 0.15 * sum(hours[hour] for hour in range(9, 14))


def test_share_of_the_period_and_its_time_are_inverse() -> None:
    rhythm = Rhythm(UNTIL - timedelta(days=30), UNTIL, growth=4)
    for share in (0.0, 0.001, 0.37, 0.5, 0.999, 1.0):
        assert rhythm.share(rhythm.at(share)) == pytest.approx(share, abs=1e-6)


def test_completion_times_are_log_normal_and_sometimes_unknown() -> None:
    made = [draft.create for draft in drafts(world(submissions=2000), "submission")]
    known = sorted(each.completion_time for each in made if each.completion_time is not None)
    assert 0.02 < 1 - len(known) / len(made) < 0.12
    median, mean = known[len(known) // 2], sum(known) / len(known)
    assert known[0] > 0
    assert 60 < median < mean < 3 * median


def test_title_names_the_season_in_which_the_form_was_created() -> None:
    months = {"winter": {12, 1, 2}, "hiver": {12, 1, 2}, "summer": {6, 7, 8}, "été": {6, 7, 8}}
    months |= {"spring": {3, 4, 5}, "printemps": {3, 4, 5}, "autumn": {9, 10, 11}, "automne": {9, 10, 11}}
    named = [
        (found[1], draft.create.created_at.month)
        for draft in drafts(world(forms=400), "form")
        if (found := re.search(r" – (\S+) \d{4}$", draft.create.title))
    ]
    assert len(named) > 100
    assert [pair for pair in named if pair[1] not in months[pair[0]]] == []


def test_few_forms_get_most_of_the_answers() -> None:
    popular = Counter(str(draft.create.form_id) for draft in drafts(world(submissions=3000), "submission"))
    top = sum(number for _, number in popular.most_common(26))
    assert top > 0.4 * 3000


def test_stars_and_words_of_one_person_agree() -> None:
    template = next(each for each in catalogue.TEMPLATES if each.title.startswith("Votre avis"))
    rng = Random(5)
    given = [answers.fill_in(template.fields, answers.respondent(rng, UNTIL)) for _ in range(400)]
    stars = Counter(each["note_globale"] for each in given)
    assert stars[4] + stars[5] > stars[1] + stars[2] + stars[3] > 0
    thankful = [each["note_globale"] for each in given if "Bravo" in each.get("commentaire", "")]
    assert min(thankful) >= 3


# -- forms and their answers ------------------------------------------------------------------------------------------


def test_domain_accepts_every_template() -> None:
    languages = Counter(template.language for template in catalogue.TEMPLATES)
    assert languages["en"] >= 5
    assert languages["fr"] >= 4
    for template in catalogue.TEMPLATES:
        assert forms.checked_fields(template.fields)
        ids = [field["id"] for field in template.fields]
        for number, field in enumerate(template.fields):
            assert "if" not in field or field["if"]["field"] in ids[:number]
    used = {field["type"] for template in catalogue.TEMPLATES for field in template.fields}
    assert used == set(answers.ANSWERS)


@pytest.mark.parametrize("template", catalogue.TEMPLATES, ids=lambda template: template.title)
def test_every_answer_fits_its_field(template: catalogue.Template) -> None:
    rng = Random(11)
    for _ in range(150):
        given = answers.fill_in(template.fields, answers.respondent(rng, UNTIL))
        assert [problem for field in template.fields for problem in problems(field, given)] == []
        assert given.keys() <= {field["id"] for field in template.fields}


def problems(field: dict[str, Any], given: dict[str, Any]) -> Iterator[str]:
    """Yields each defect of the answer to one field, independently of the code that generates answers."""
    condition = field.get("if")
    shown = not condition or given.get(condition["field"]) == condition["is"]
    if field["id"] not in given:
        if shown and field["required"]:
            yield f"{field['id']}: required and not answered"
        return
    value = given[field["id"]]
    if not shown:
        yield f"{field['id']}: answered, but not shown"
    if not VALID[field["type"]](field, value):
        yield f"{field['id']}: {value!r} is no {field['type']}"


def in_range(field: dict[str, Any], value: Any) -> bool:
    return field["min"] <= value <= field["max"]


def is_text(_field: dict[str, Any], value: Any) -> bool:
    return isinstance(value, str) and value == value.strip() != "" and "{" not in value and "  " not in value


ROWS = {
    "matrix": lambda f, v: v.keys() == {r["id"] for r in f["rows"]} and set(v.values()) <= set(f["options"]),
    "ranking": lambda f, v: v.keys() == {r["id"] for r in f["rows"]} and sorted(v.values()) == f["options"],
}
VALID: dict[str, Any] = ROWS | {
    "text": lambda f, v: is_text(f, v) and "\n" not in v,
    "long_text": is_text,
    "email": lambda f, v: RESERVED.fullmatch(v),
    "phone": lambda f, v: re.fullmatch(r"\+(44 20 7946 0\d{3}|33 1 99 00 \d\d \d\d|1 202 555 01\d\d)", v),
    "url": lambda f, v: re.fullmatch(r"https://[a-z0-9.-]+/[a-z0-9-]+", v),
    "integer": lambda f, v: type(v) is int and in_range(f, v),
    "number": lambda f, v: type(v) in (int, float) and in_range(f, v),
    "boolean": lambda f, v: type(v) is bool,
    "rating": lambda f, v: type(v) is int and v in f["options"] and in_range(f, v),
    "date": lambda f, v: date.fromisoformat(v),
    "datetime": lambda f, v: datetime.fromisoformat(v).tzinfo is not None,
    "single_choice": lambda f, v: v in f["options"],
    "multiple_choice": lambda f, v: v and set(v) <= set(f["options"]) and len(set(v)) == len(v),
}


# -- written once -----------------------------------------------------------------------------------------------------


def seed(**options: Any) -> None:
    call_command("seed_demo", **{"users": 30, "submissions": 200, "verbosity": 0, **options})


def counts() -> list[int]:
    return [table.objects.count() for table in (User, Form, Submission, Setting, Staff)]


@pytest.fixture(autouse=True)
def _quick_hashes(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.DEBUG, settings.DATA_DIR = True, tmp_path / "data"
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    monkeypatch.delenv("DEMO_PASSWORD", raising=False)


@pytest.mark.django_db
def test_second_run_adds_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    seed()
    before, last = counts(), head.last()
    assert before[:3] == [30, 68, 200]
    assert "200 submissions" in capsys.readouterr().out
    seed()
    assert (counts(), head.last()) == (before, last)
    assert "nothing to add" in capsys.readouterr().out


@pytest.mark.django_db
def test_next_run_completes_an_interrupted_one_and_keeps_changes_by_people() -> None:
    staff = logins.ensure("secret")
    made = World(30, 68, 200, until=load.until(0))
    load.records(made, "user", staff, lambda _: None)
    load.records(World(30, 20, 0, until=made.until), "form", staff, lambda _: None)
    Setting.objects.all().delete()
    someone = User.objects.first()
    assert someone is not None
    User.objects.filter(pk=someone.pk).update(first_name="Changed")
    seed()
    assert counts()[:3] == [30, 68, 200]
    assert User.objects.get(pk=someone.pk).first_name == "Changed"


@pytest.mark.django_db
def test_history_has_author_change_and_reason() -> None:
    seed(users=80, submissions=0)
    changed = User.objects.filter(version__gt=1)
    assert changed.count() >= 5
    for user in changed:
        later = store.read_stream(types.stream_name("user", user.pk), after=1)
        for event in later:
            assert event.actor.startswith("staff:")
            assert event.reason
            assert event.metadata["actor_name"] in logins.NAMES


@pytest.mark.django_db
def test_every_time_is_in_the_past() -> None:
    seed()
    now = datetime.now(UTC)
    assert User.objects.filter(created_at__lt=now - timedelta(days=150)).exists()
    assert not Submission.objects.filter(created_at__gt=now).exists()


# -- logins -----------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_each_role_has_a_login_and_the_password_is_in_a_private_file(settings: Any) -> None:
    seed(users=0, submissions=0)
    kept = settings.DATA_DIR / logins.PASSWORD_FILE
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    staff = Staff.objects.filter(is_staff=True)
    assert {person.username: person.role for person in staff} == {role: role for role in logins.NAMES}
    assert [person.username for person in staff if person.is_superuser] == ["admin"]
    assert all(person.check_password(kept.read_text()) for person in staff)


@pytest.mark.django_db
def test_password_is_updated_only_when_it_changed(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    monkeypatch.setenv("DEMO_PASSWORD", "first")
    seed(users=0, submissions=0)
    hashes = set(Staff.objects.values_list("password", flat=True))
    seed(users=0, submissions=0)
    assert set(Staff.objects.values_list("password", flat=True)) == hashes
    monkeypatch.setenv("DEMO_PASSWORD", "second")
    seed(users=0, submissions=0)
    assert all(person.check_password("second") for person in Staff.objects.all())
    assert not (settings.DATA_DIR / logins.PASSWORD_FILE).exists()


@pytest.mark.django_db
@pytest.mark.parametrize("command", ["seed_demo", "demo_traffic"])
def test_command_is_refused_in_production(settings: Any, command: str) -> None:
    settings.DEBUG = False
    before = counts()
    with pytest.raises(CommandError, match="DEBUG=0"):
        call_command(command)
    assert counts() == before
    assert not os.path.exists(settings.DATA_DIR)  # noqa: PTH110
