"""Unreadable events and missing master keys do not prevent an erasure."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.urls import reverse

from backoffice import models
from backoffice.sections.conflicts import domain as conflicts
from backoffice.sections.forms import domain as forms
from backoffice.sections.submissions import domain as submissions
from backoffice.sections.users import domain as users
from events import commands, errors, snapshots, store
from events.privacy import erasure, subject_keys
from events.types import ERASED, new_id
from tests import factories
from tests.backoffice import api_client
from tests.own_database import own_database

pytestmark = pytest.mark.django_db(transaction=True)

RIGHT, OTHER = b"r" * 32, b"o" * 32
CANARY = "canary-7f3a@example.org"


@pytest.fixture(autouse=True)
def database(transactional_db: None, template: str, settings: Any) -> Iterator[None]:
    settings.PRIVACY_KEYS = {"first": RIGHT}
    with own_database(template):
        yield


def use(settings: Any, **keys: bytes) -> None:
    """Configures these keys, as after a restart."""
    settings.PRIVACY_KEYS = keys
    subject_keys.CACHE.clear()


def insert_unreadable(stream: str, kind: str) -> None:
    """Inserts an unreadable event, as an older release or a manual change could have stored it."""
    spoiled = '{"answers": 5, "title": 5, "email": 5}'
    store.query(store.APPEND_ONE, (stream, stream, None, kind, 1, spoiled, new_id(), "system", None, None, None, "{}"))


class PersonRecords:
    """A user with a form, a submission and an open conflict about the user."""

    def __init__(self) -> None:
        self.user = factories.user(email=CANARY, first_name="Ada")
        self.form = factories.form(self.user, title="Private plans")
        self.submission = factories.submission(self.form, q=CANARY)
        self.conflict = new_id()
        quoted = {"first_name": CANARY}
        filed = conflicts.FileConflict(
            stream=f"user-{self.user}",
            command={"id": str(self.conflict), "type": "user.update", "key": str(self.user), "data": quoted},
            base_version=1,
            version=1,
            base=quoted,
            theirs=quoted,
            mine=quoted,
            fields=["first_name"],
            conflicts=[],
            author="staff:1",
            fingerprint="f",
        )
        commands.dispatch(factories.command(filed, self.conflict))

    def keys(self) -> list[str]:
        """Returns the subjects whose key still exists."""
        return [row[0] for row in store.query("select subject from events_subject_key where secret is not null")]

    def assert_gone(self) -> None:
        assert self.keys() == []
        assert models.User.objects.get(pk=self.user).email == ERASED
        assert models.Form.objects.get(pk=self.form).title == ERASED
        assert models.Submission.objects.get(pk=self.submission).answers == submissions.NO_ANSWERS
        assert models.Conflict.objects.get(pk=self.conflict).status == "dismissed"
        assert erasure.status().unpurged == 0
        for stream in (f"user-{self.user}", f"form-{self.form}", f"submission-{self.submission}"):
            assert CANARY not in repr(store.read_stream(stream))


def erase(user: uuid.UUID, **fields: Any) -> Any:
    return api_client.signed_in("dpo").command("user.erase", user, reason="asked by letter", **fields)


@pytest.mark.parametrize("place", ["user", "form", "submission", "conflict"])
def test_person_with_an_unreadable_event_is_erased(place: str) -> None:
    held = PersonRecords()
    insert_unreadable(
        f"{place}-{getattr(held, place)}", f"{place}.{'received' if place == 'submission' else 'created'}"
    )
    with pytest.raises(errors.UnreadableEvent):
        snapshots.state(f"{place}-{getattr(held, place)}") if place != "conflict" else spoiled_conflict(held)
    answer = erase(held.user, base_version=1)
    assert (answer.status_code, answer.json()["status"]) == (200, "applied")
    held.assert_gone()
    assert erase(held.user).json()["status"] == "unchanged"


def spoiled_conflict(held: PersonRecords) -> None:
    store.query(
        store.APPEND_ONE,
        (*[f"conflict-{held.conflict}"] * 2, None, "conflict.filed", 1, "{}", new_id(), "system", *[None] * 3, "{}"),
    )
    snapshots.state(f"conflict-{held.conflict}")


def test_other_commands_on_an_incomplete_state_are_refused() -> None:
    held = PersonRecords()
    insert_unreadable(f"user-{held.user}", "user.updated")
    for data in (users.UpdateUser(first_name="X"), users.DeleteUser(), users.RestoreUser()):
        with pytest.raises(errors.UnreadableEvent):
            commands.dispatch(factories.command(data, held.user, reason="why not"))


def test_submission_whose_events_do_not_name_its_form_is_erased() -> None:
    form, submission = factories.form(), new_id()
    insert_unreadable(f"submission-{submission}", "submission.received")
    store.execute(
        "insert into submissions (id, form_id, answers, created_at, version, updated_at)"
        " values (%s, %s, '{\"q\": 1}', now(), 1, now())",
        (submission, form),
    )
    erased = factories.command(submissions.EraseSubmission(), submission, reason="asked")
    assert commands.dispatch(erased).status == "applied"
    assert models.Submission.objects.get(pk=submission).answers == submissions.NO_ANSWERS
    stranger = new_id()
    insert_unreadable(f"submission-{stranger}", "submission.received")
    with pytest.raises(errors.UnreadableEvent):
        commands.dispatch(factories.command(submissions.EraseSubmission(), stranger, reason="asked"))


def test_erasure_of_a_missing_record_returns_not_found() -> None:
    for data in (users.EraseUser(), forms.EraseForm(), submissions.EraseSubmission()):
        with pytest.raises(errors.StreamNotFound):
            commands.dispatch(factories.command(data, new_id(), reason="asked"))


@pytest.mark.parametrize("left", [{"second": OTHER}, {"first": OTHER}], ids=["missing", "wrong"])
@pytest.mark.parametrize("way", ["api", "page", "command"])
def test_person_is_erased_without_their_master_key(settings: Any, left: dict[str, bytes], way: str) -> None:
    held = PersonRecords()
    store.execute(
        "insert into events_snapshot (stream, version, state_version, state) values (%s, 1, 2, %s::jsonb)",
        (f"user-{held.user}", json.dumps({"email": CANARY})),
    )
    store.execute(
        "insert into events_parked (subscription, stream, position, error) values ('x', 'setting-a', 1, %s)",
        (f"UniqueViolation: ({CANARY}) is there already",),
    )
    use(settings, **left)
    if way == "api":
        assert erase(held.user).status_code == 200
    elif way == "page":
        address = reverse("admin:backoffice_user_erase", args=[held.user])
        answer = api_client.signed_in("dpo").client.post(
            address, {"reason": "asked", "meant": "on", "command_id": str(new_id())}
        )
        assert answer.status_code == 302, answer.content
    else:
        call_command("erase_user", str(held.user), reason="asked", stdout=StringIO())
    held.assert_gone()
    assert store.query("select 1 from events_snapshot") == []
    assert store.query("select error from events_parked") == [(ERASED,)]
    use(settings, first=RIGHT)
    held.assert_gone()


def test_erasure_of_one_submission_needs_the_key_of_its_form(settings: Any) -> None:
    """Its key is a leaf of the form's key tree: to forget one leaf, the others must be decrypted."""
    held = PersonRecords()
    use(settings, second=OTHER)
    erased = factories.command(submissions.EraseSubmission(), held.submission, reason="asked")
    with pytest.raises(errors.MasterKeyMissing):
        commands.dispatch(erased)
    use(settings, first=RIGHT)
    assert commands.dispatch(erased).status == "applied"
