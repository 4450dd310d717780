"""Stored answers to commands: an erasure deletes those of every entry point, and they confirm no guess of the data."""

from __future__ import annotations

import uuid
from typing import Any

import orjson
import pytest
from django.db import transaction

from backoffice.sections.forms import domain as forms
from backoffice.sections.submissions import domain as submissions
from backoffice.sections.users import domain as users
from events import answers, commands, errors, store, tasks
from events.privacy import subject_keys
from events.types import Command, new_id
from tests import factories
from tests.events.isolated_log import migration

pytestmark = pytest.mark.django_db(transaction=True)


def received(form: uuid.UUID, number: int) -> Command:
    return factories.command(submissions.ReceiveSubmission(form_id=form, answers={"q": f"Zoelinde {number}"}))


def remembered(*asked: Command) -> list[uuid.UUID]:
    ids = [command.id for command in asked]
    found = {row[0] for row in store.query("select id from events_command where id = any(%s)", (ids,))}
    return [key for key in ids if key in found]


@pytest.mark.parametrize("by", ["one", "many"])
def test_erasure_deletes_stored_answers_of_every_entry_point(by: str) -> None:
    owner = factories.user()
    form = factories.form(owner)
    asked = [received(form, number) for number in range(3)]
    changed = factories.command(users.UpdateUser(first_name="Zoelinde"), owner)
    same = factories.command(users.UpdateUser(first_name="Zoelinde"), owner)
    others = [received(factories.form(), 1)]
    if by == "many":
        results = commands.dispatch_many([*asked, changed, same, *others])
    else:
        results = [commands.dispatch(command) for command in (*asked, changed, same, *others)]
    assert results[4].status == "unchanged"
    assert len(remembered(*asked, changed, same, *others)) == 6
    commands.dispatch(factories.command(users.EraseUser(), owner, reason="asked"))
    assert remembered(*asked, changed, same, *others) == [others[0].id]


def test_erased_submission_deletes_only_its_own_answer() -> None:
    form = factories.form()
    asked = [received(form, number) for number in range(3)]
    commands.dispatch_many(asked)
    commands.dispatch(factories.command(submissions.EraseSubmission(), asked[1].key, reason="asked"))
    assert remembered(*asked) == [asked[0].id, asked[2].id]


def test_merge_notes_of_archived_events_are_erased_with_their_subject() -> None:
    """The row itself names the subject, so no event is needed to find it."""
    owner = factories.user()
    factories.update(owner, last_name="Zoe")
    merged = factories.command(users.UpdateUser(first_name="Zoelinde"), owner, base_version=1)
    assert commands.dispatch(merged).status == "merged"
    row = store.query("select stream, subject, result from events_command where id = %s", (merged.id,))[0]
    assert row[:2] == (f"user-{owner}", f"user-{owner}")
    commands.dispatch(factories.command(users.EraseUser(), owner, reason="asked"))
    assert remembered(merged) == []


def raw(command: Command) -> str:
    found: str = store.query("select c::text from events_command c where id = %s", (command.id,))[0][0]
    return found


@pytest.mark.parametrize("by", ["one", "many"])
def test_fingerprint_confirms_no_guess_and_still_distinguishes_retry_from_reuse(by: str) -> None:
    asked = received(factories.form(), 1)
    beside = received(factories.form(), 2)
    if by == "one":
        commands.dispatch(asked)
    else:
        commands.dispatch_many([asked, beside])
    assert answers.fingerprint(asked).hex() not in raw(asked)
    assert commands.dispatch(asked).status == "duplicate"
    assert [result.status for result in commands.dispatch_many([asked])] == ["duplicate"]
    with pytest.raises(errors.IdempotencyKeyReused):
        commands.dispatch(factories.command(submissions.DeleteSubmission(), asked.key, id=asked.id))


def test_retry_is_recognised_under_another_master_key(settings: Any) -> None:
    asked = received(factories.form(), 1)
    old = settings.PRIVACY_KEYS
    commands.dispatch(asked)
    other = factories.command(submissions.DeleteSubmission(), asked.key, id=asked.id)
    settings.PRIVACY_KEYS = {"new": b"n" * 32, **old}
    assert commands.dispatch(asked).status == "duplicate"
    with pytest.raises(errors.IdempotencyKeyReused):
        commands.dispatch(other)
    settings.PRIVACY_KEYS = {"new": b"n" * 32}  # the old key was removed, so the command id alone decides
    assert commands.recalled(asked) is not None


OLD = """
update events_command set stream = null, subject = null, fingerprint = %s, result = %s::jsonb where id = %s returning 1
"""


def as_earlier_release(command: Command) -> None:
    """Store the row as earlier releases did."""
    plain = answers.fingerprint(command)
    answer = orjson.loads(store.query("select result::text from events_command where id = %s", (command.id,))[0][0])
    answer |= {"fingerprint": plain.hex(), "merged": [{"path": "first_name", "value": "Zoelinde"}]}
    store.query(OLD, (plain, orjson.dumps(answer).decode(), command.id))


def test_fingerprints_of_an_earlier_release_are_keyed_and_recall_as_before() -> None:
    asked = [received(factories.form(), number) for number in range(5)]
    commands.dispatch_many(asked)
    for command in asked:
        as_earlier_release(command)
    assert commands.dispatch(asked[0]).status == "duplicate", "before"
    with transaction.atomic():
        assert answers.key_fingerprints(3) == 3
    tasks.forget_commands()
    assert store.query(answers.UNKEYED, (10,)) == []
    for command in asked:
        assert commands.dispatch(command).status == "duplicate"
        assert answers.fingerprint(command).hex() not in raw(command)
        assert "Zoelinde" not in raw(command)
        with pytest.raises(errors.IdempotencyKeyReused):
            commands.dispatch(factories.command(submissions.DeleteSubmission(), command.key, id=command.id))


def test_migration_keys_existing_fingerprints() -> None:
    asked = received(factories.form(), 1)
    commands.dispatch(asked)
    as_earlier_release(asked)
    migration("0014_command_subjects").key(None, None)
    assert store.query(answers.UNKEYED, (10,)) == []
    assert commands.dispatch(asked).status == "duplicate"


def test_first_erasure_keys_fingerprints_of_an_earlier_release() -> None:
    asked = received(factories.form(), 1)
    commands.dispatch(asked)
    as_earlier_release(asked)
    commands.dispatch(factories.command(users.EraseUser(), factories.user(), reason="asked"))
    assert answers.fingerprint(asked).hex() not in raw(asked)


def test_form_created_and_changed_in_one_batch_is_stored_under_its_own_subject() -> None:
    key, owner = new_id(), factories.user()
    made = factories.command(forms.CreateForm(user_id=owner, title="Zoelinde"), key)
    changed = factories.command(forms.UpdateForm(title="Zoelinde 2"), key)
    commands.dispatch_many([made, changed])
    found = store.query("select subject from events_command where id = any(%s)", ([made.id, changed.id],))
    assert found == [(f"form-{key}",)] * 2
    subject_keys.CACHE.clear()
    commands.dispatch(factories.command(users.EraseUser(), owner, reason="asked"))
    assert remembered(made, changed) == []
