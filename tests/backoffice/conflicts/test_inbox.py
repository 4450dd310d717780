"""The inbox: a conflicting edit is filed once and resolved once, against the current record, in one transaction."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from backoffice import access, models
from backoffice import commands as entry_point
from backoffice.sections.conflicts import domain, inbox, situations
from backoffice.sections.conflicts.section import show
from backoffice.sections.forms import domain as forms
from backoffice.sections.site_settings import domain as settings
from backoffice.sections.users import domain as users
from events import commands, errors, snapshots, store, types
from realtime import topics
from tests import factories
from tests.backoffice import api_client

pytestmark = pytest.mark.django_db


@pytest.fixture
def manager(db: None) -> models.Staff:
    return api_client.staff("manager")


def stale(staff: Any, key: Any, **fields: Any) -> types.Command:
    """Sends an edit of a user based on version 1, which is filed as a conflict; returns its command."""
    command = factories.command(users.UpdateUser(**fields), key, base_version=1, reason="mine")
    with pytest.raises(errors.Conflict) as caught:
        entry_point.dispatch(command, staff)
    assert caught.value.conflict_id == str(domain.id_for(command.id))
    return command


def conflict(staff: Any, **fields: Any) -> tuple[uuid.UUID, uuid.UUID]:
    """Files a conflict about the last name of a user; returns the user's id and the conflict's."""
    key = factories.user(last_name="Base", first_name="Base")
    factories.update(key, last_name="Theirs")
    return key, domain.id_for(stale(staff, key, **{"last_name": "Mine", **fields}).id)


def state(key: Any, category: str = "user") -> dict[str, Any]:
    return snapshots.state_dict(f"{category}-{key}")[0]


# -- filing -----------------------------------------------------------------------------------------------------------


def test_conflicting_edit_is_filed_completely_and_not_applied(manager: models.Staff) -> None:
    key, found = conflict(manager, first_name="Also mine")
    assert state(key)["first_name"] == "Base"
    filed = inbox.filed(found)
    assert filed is not None
    assert filed.command["data"] == {"last_name": "Mine", "first_name": "Also mine"}
    assert [filed.base["last_name"], filed.theirs["last_name"], filed.mine["last_name"]] == ["Base", "Theirs", "Mine"]
    assert (filed.fields, filed.base_version, filed.version) == (["last_name"], 1, 2)
    assert filed.conflicts[0]["kind"] == "both_changed"
    row = models.Conflict.objects.get(pk=found)
    assert (row.status, row.category, row.key, row.reason) == ("open", "user", str(key), "mine")


def test_repeated_command_returns_the_same_conflict(manager: models.Staff) -> None:
    key = factories.user(last_name="Base")
    factories.update(key, last_name="Theirs")
    command = stale(manager, key, last_name="Mine")
    factories.update(key, last_name="Base")  # now it would merge
    for _again in range(2):
        with pytest.raises(errors.Conflict) as caught:
            entry_point.dispatch(command, manager)
        assert caught.value.conflict_id == str(domain.id_for(command.id))
        assert caught.value.theirs["last_name"] == "Theirs"
    assert models.Conflict.objects.count() == 1
    assert state(key)["last_name"] == "Base"
    inbox.resolve(domain.id_for(command.id), manager, {})
    with pytest.raises(errors.Conflict):
        entry_point.dispatch(command, manager)
    assert store.version_of(f"conflict-{domain.id_for(command.id)}") == 2


def test_other_command_with_a_filed_id_is_refused(manager: models.Staff) -> None:
    key = factories.user(last_name="Base")
    factories.update(key, last_name="Theirs")
    command = stale(manager, key, last_name="Mine")
    other = factories.command(users.UpdateUser(last_name="Other"), key, base_version=1, id=command.id)
    with pytest.raises(errors.IdempotencyKeyReused):
        entry_point.dispatch(other, manager)
    assert models.Conflict.objects.count() == 1


def test_very_long_form_is_filed_and_resolved(manager: models.Staff) -> None:
    def fields(text: str) -> list[dict[str, Any]]:
        return [{"id": f"q{n}", "type": "text", "label": f"{text} {'x' * 900}"} for n in range(400)]

    key = factories.form(fields=fields("base"))
    commands.dispatch(factories.command(forms.UpdateForm(fields=fields("theirs")), key))
    command = factories.command(forms.UpdateForm(fields=fields("mine")), key, base_version=1)
    with pytest.raises(errors.Conflict):
        entry_point.dispatch(command, manager)
    now = situations.situation(domain.id_for(command.id))
    assert len(now.open_places) == 400
    inbox.resolve(now.id, manager, {place.path: "mine" for place in now.open_places})
    assert state(key, "form")["fields"] == fields("mine")


# -- resolving ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choices", "values", "expected"),
    [
        ({"last_name": "theirs"}, {}, "Theirs"),
        ({"last_name": "mine"}, {}, "Mine"),
        ({"last_name": "value"}, {"last_name": "Typed"}, "Typed"),
        ({}, {"last_name": "Typed"}, "Typed"),
    ],
)
def test_conflict_is_resolved_by_choice(manager: models.Staff, choices: Any, values: Any, expected: str) -> None:
    key, found = conflict(manager, first_name="Rest")
    settled = inbox.resolve(found, manager, choices, values, reason="agreed")
    assert (state(key)["last_name"], state(key)["first_name"]) == (expected, "Rest")
    assert settled.version == store.version_of(f"user-{key}") == 3
    told = store.read_stream(f"conflict-{found}")[-1]
    assert told.type == "conflict.resolved"
    assert told.data["parents"] == {"base_version": 1, "theirs_version": 2}
    assert (told.data["version"], told.reason) == (3, "agreed")
    assert models.Conflict.objects.get(pk=found).status == "resolved"


def test_choosing_all_of_theirs_changes_nothing(manager: models.Staff) -> None:
    key, found = conflict(manager)
    settled = inbox.resolve(found, manager, {"last_name": "theirs"})
    assert (settled.result, settled.version) == (None, 2)
    assert store.version_of(f"user-{key}") == 2


@pytest.mark.parametrize(
    ("choices", "values", "field"),
    [
        ({}, {}, "last_name"),
        ({"last_name": "mine", "plan": "mine"}, {}, "plan"),
        ({"last_name": "value"}, {}, "last_name"),
        ({"last_name": "mine"}, {"last_name": "x"}, "last_name"),
        ({}, {"last_name": 7}, "last_name"),
        ({}, {"last_name": "x" * 151}, "last_name"),
    ],
)
def test_missing_unknown_and_invalid_choices_are_named_and_nothing_is_written(
    manager: models.Staff, choices: Any, values: Any, field: str
) -> None:
    key, found = conflict(manager)
    with pytest.raises(errors.InvalidCommand) as caught:
        inbox.resolve(found, manager, choices, values)
    assert field in caught.value.fields
    assert (store.version_of(f"user-{key}"), store.version_of(f"conflict-{found}")) == (2, 1)


def test_resolution_that_the_record_refuses_leaves_the_conflict_open(manager: models.Staff) -> None:
    factories.user(email="taken@example.org")
    key = factories.user(email="base@example.org")
    factories.update(key, email="theirs@example.org")
    found = domain.id_for(stale(manager, key, email="taken@example.org").id)
    with pytest.raises(errors.Rejected):
        inbox.resolve(found, manager, {"email": "mine"})
    assert models.Conflict.objects.get(pk=found).status == "open"
    assert store.version_of(f"conflict-{found}") == 1


def test_resolution_is_checked_against_the_current_record(manager: models.Staff) -> None:
    key, found = conflict(manager)
    factories.update(key, first_name="Newer")
    inbox.resolve(found, manager, {"last_name": "mine"}, seen=2)
    assert (state(key)["last_name"], state(key)["first_name"]) == ("Mine", "Newer")


def test_place_changed_since_it_was_viewed_is_asked_again(manager: models.Staff) -> None:
    key, found = conflict(manager)
    factories.update(key, last_name="Theirs again")
    with pytest.raises(inbox.Moved):
        inbox.resolve(found, manager, {"last_name": "theirs"}, seen=2)
    assert models.Conflict.objects.get(pk=found).status == "open"
    inbox.resolve(found, manager, {"last_name": "mine"}, seen=3)
    assert state(key)["last_name"] == "Mine"


def test_removed_setting_is_set_by_a_resolution(manager: models.Staff) -> None:
    admin = api_client.staff("admin")
    commands.dispatch(factories.command(settings.SetSetting(value=1), "a.b"))
    commands.dispatch(factories.command(settings.SetSetting(value=2), "a.b"))
    command = factories.command(settings.SetSetting(value=3), "a.b", base_version=1)
    with pytest.raises(errors.Conflict):
        entry_point.dispatch(command, admin)
    inbox.resolve(domain.id_for(command.id), admin, {"value": "mine"})
    assert state("a.b", "setting") == {"value": 3}


@pytest.mark.parametrize(("choice", "deleted"), [("mine", True), ("theirs", False)])
def test_deletion_is_applied_or_discarded(manager: models.Staff, choice: str, deleted: bool) -> None:
    key = factories.user()
    factories.update(key, last_name="Theirs")
    command = factories.command(users.DeleteUser(), key, base_version=1)
    with pytest.raises(errors.Conflict):
        entry_point.dispatch(command, manager)
    inbox.resolve(domain.id_for(command.id), manager, {situations.WHOLE: choice})
    assert (state(key)["deleted_at"] is not None) is deleted


@pytest.mark.django_db(transaction=True)
def test_one_of_several_concurrent_resolutions_wins(transactional_db: None) -> None:
    staff = api_client.staff("manager")
    key, found = conflict(staff)
    sides = ["mine", "theirs", "mine", "theirs"]
    racers = [factories.Thread(lambda side=side: inbox.resolve(found, staff, {"last_name": side})) for side in sides]
    won, lost = [], []
    for side, racer in zip(sides, racers, strict=True):
        try:
            racer.result()
            won.append(side)
        except domain.AlreadySettled as error:
            lost.append(error)
    assert (len(won), len(lost)) == (1, 3)
    assert state(key)["last_name"] == {"mine": "Mine", "theirs": "Theirs"}[won[0]]
    resolved = [e for e in store.read_stream(f"conflict-{found}") if e.type == "conflict.resolved"]
    assert [event.data["choices"] for event in resolved] == [{"last_name": won[0]}]


@pytest.mark.django_db(transaction=True)
def test_command_sent_concurrently_is_filed_once(transactional_db: None) -> None:
    staff = api_client.staff("manager")
    key = factories.user(last_name="Base")
    factories.update(key, last_name="Theirs")
    command = factories.command(users.UpdateUser(last_name="Mine"), key, base_version=1)
    found = set()
    for racer in [factories.Thread(lambda: entry_point.dispatch(command, staff)) for _ in range(4)]:
        with pytest.raises(errors.Conflict) as caught:
            racer.result()
        found.add(caught.value.conflict_id)
    assert found == {str(domain.id_for(command.id))}
    assert [e.type for e in store.read_stream(f"conflict-{domain.id_for(command.id)}")] == ["conflict.filed"]


# -- assignment, comments, permissions ---------------------------------------------------------------------------------


def test_conflict_is_assigned_commented_discarded_and_reopened(manager: models.Staff) -> None:
    _, found = conflict(manager)
    inbox.act(found, manager, domain.AssignConflict(assignee=manager.pk))
    inbox.act(found, manager, domain.CommentConflict(text=" Who knows? "))
    inbox.act(found, manager, domain.DismissConflict(), "not needed")
    row = models.Conflict.objects.get(pk=found)
    assert (row.assignee_id, row.comments, row.status) == (manager.pk, 1, "dismissed")
    with pytest.raises(domain.AlreadySettled):
        inbox.resolve(found, manager, {"last_name": "mine"})
    inbox.act(found, manager, domain.ReopenConflict())
    inbox.resolve(found, manager, {"last_name": "mine"})
    with pytest.raises(domain.AlreadySettled):
        inbox.act(found, manager, domain.ReopenConflict())
    with pytest.raises(domain.AlreadySettled):
        inbox.act(found, manager, domain.DismissConflict())


def test_conflict_is_not_assigned_to_a_person_who_may_not_resolve_it(manager: models.Staff) -> None:
    _, found = conflict(manager)
    for person in (api_client.staff("viewer"), api_client.staff("dpo"), api_client.staff("agent", is_active=False)):
        with pytest.raises(errors.InvalidCommand):
            inbox.act(found, manager, domain.AssignConflict(assignee=person.pk))


@pytest.mark.parametrize("role", ["viewer", "dpo"])
def test_resolution_requires_the_right_to_make_the_change(manager: models.Staff, role: str) -> None:
    _, found = conflict(manager)
    person = api_client.staff(role)
    with pytest.raises(inbox.Forbidden):
        inbox.resolve(found, person, {"last_name": "mine"})
    with pytest.raises(inbox.Forbidden):
        inbox.act(found, person, domain.DismissConflict())


def test_role_can_only_keep_a_field_that_it_may_not_change(manager: models.Staff) -> None:
    key = factories.user(plan="free")
    factories.update(key, plan="premium")
    found = domain.id_for(stale(manager, key, plan="enterprise", last_name="Rest").id)
    agent = api_client.staff("agent")
    with pytest.raises(inbox.Forbidden) as caught:
        inbox.resolve(found, agent, {"plan": "mine"})
    assert caught.value.missing == "user.plan"
    inbox.resolve(found, agent, {"plan": "theirs"})
    assert (state(key)["plan"], state(key)["last_name"]) == ("premium", "Rest")


def test_inbox_is_filtered_by_person_and_team(manager: models.Staff) -> None:
    from events import context

    with context.acting(actor=f"staff:{manager.pk}"):
        _, own = conflict(manager)
    _, others = conflict(manager)
    assert inbox.count_open(manager) == {"mine": 1, "everybody": 2}
    assert [inbox.count_team(each) for each in (manager, api_client.staff("manager"), api_client.staff("agent"))] == [
        1,
        1,
        0,
    ]
    inbox.act(own, manager, domain.AssignConflict(assignee=api_client.staff("agent").pk))
    inbox.act(others, manager, domain.AssignConflict(assignee=manager.pk))
    assert list(inbox.visible(manager).filter(inbox.mine(manager)).values_list("pk", flat=True)) == [others]


# -- what is shown ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", api_client.ROLES)
def test_events_of_a_conflict_hide_fields_from_a_role(role: str, manager: models.Staff) -> None:
    key = factories.user(email="secret-base@example.org")
    factories.update(key, email="secret-theirs@example.org")
    found = domain.id_for(stale(manager, key, email="secret-mine@example.org").id)
    inbox.act(found, manager, domain.CommentConflict(text="is it secret-mine@example.org?"))
    inbox.resolve(found, manager, {}, {"email": "secret-typed@example.org"})
    hides = "email" in access.role_hidden_fields(role, "user")
    for event in store.read_stream(f"conflict-{found}"):
        shown = types.to_builtins(access.role_redact(role, "conflict", event.data))
        assert ("secret" in str(shown)) is not hides
        assert "secret" not in str(show(event, role))


@pytest.mark.parametrize("role", api_client.ROLES)
def test_topic_of_the_inbox_requires_the_right_to_resolve(role: str, db: None) -> None:
    person = api_client.staff(role)
    found = topics.find("conflicts")
    assert found is not None
    topic, _key = found
    assert topic.may_subscribe(person) is access.may_resolve(person) is (role in {"admin", "manager", "agent"})


def test_conflict_about_a_hidden_record_shows_nothing(manager: models.Staff) -> None:
    admin = api_client.staff("admin")
    commands.dispatch(factories.command(settings.SetSetting(value="a"), "x.y"))
    commands.dispatch(factories.command(settings.SetSetting(value="b"), "x.y"))
    command = factories.command(settings.SetSetting(value="c"), "x.y", base_version=1, reason="hush")
    with pytest.raises(errors.Conflict):
        entry_point.dispatch(command, admin)
    for event in store.read_stream(f"conflict-{domain.id_for(command.id)}"):
        assert access.role_redact("agent", "conflict", event.data) == {}
        told = show(event, "agent")
        assert told["data"] == {}
        assert "hush" not in str(told)
    assert not inbox.visible(api_client.staff("agent")).exists()
