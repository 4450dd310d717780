"""Inbox and conflict page in the admin as plain forms; a browser test covers the scripts."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from backoffice import commands as entry_point
from backoffice import models
from backoffice.sections.conflicts import domain, inbox
from backoffice.sections.forms import domain as forms
from backoffice.sections.users import domain as users
from events import commands, errors, snapshots, store
from tests import factories
from tests.backoffice import api_client

pytestmark = pytest.mark.django_db

INBOX = "/admin/backoffice/conflict/"


def signed_in(person: models.Staff) -> Client:
    client = Client()
    client.force_login(person)
    return client


@pytest.fixture
def manager(db: None) -> models.Staff:
    return api_client.staff("manager")


def filed(person: models.Staff, mine: dict[str, Any], theirs: dict[str, Any], **base: Any) -> tuple[Any, Any]:
    key = factories.user(**base)
    factories.update(key, **theirs)
    command = factories.command(users.UpdateUser(**mine), key, base_version=1, reason="asked")
    with pytest.raises(errors.Conflict):
        entry_point.dispatch(command, person)
    return key, domain.id_for(command.id)


def conflict(person: models.Staff) -> tuple[Any, Any]:
    return filed(person, {"last_name": "Mine", "first_name": "Rest"}, {"last_name": "Theirs"}, last_name="Base")


def url(name: str, key: Any) -> str:
    return reverse(f"admin:backoffice_conflict_{name}", args=[key])


def sent(response: Any, **more: Any) -> dict[str, Any]:
    """Returns the data that the page's form would send, with choices by number: ``choice_0="mine"``."""
    form = {"version": response.context["now"].version, "reason": response.context["reason"] or ""}
    for place in response.context["places"]:
        form |= {f"path-{place.number}": place.path, f"value-{place.number}": place.typed}
    return form | {name.replace("_", "-"): value for name, value in more.items()}


def state(key: Any) -> dict[str, Any]:
    return snapshots.state_dict(f"user-{key}")[0]


# -- from a stale save to the resolution ------------------------------------------------------------------------------


def test_stale_save_redirects_to_the_conflict_page_with_the_input(manager: models.Staff) -> None:
    key, client = factories.user(last_name="Base"), signed_in(manager)
    address = reverse("admin:backoffice_user_change", args=[key])
    form = client.get(address).context["form"]
    typed = {field.name: field.value() for field in form if field.value() not in (None, False)}
    factories.update(key, last_name="Theirs")
    response = client.post(address, typed | {"last_name": "Mine", "first_name": "Rest", "reason": "asked"})
    assert response.status_code == 302
    page = client.get(response["Location"])
    (place,) = page.context["places"]
    assert (place.base, place.theirs, place.mine, place.path) == ("Base", "Theirs", "Mine", "last_name")
    done = client.post(response["Location"], sent(page, choice_0="mine"))
    assert done["Location"] == address
    assert (state(key)["last_name"], state(key)["first_name"]) == ("Mine", "Rest")
    assert store.read_stream(f"user-{key}")[-1].reason == "asked"
    back = client.post(address, typed | {"last_name": "Mine", "first_name": "Rest", "reason": "asked"})
    assert back["Location"] == response["Location"]  # the same click again: the same, resolved conflict
    assert models.Conflict.objects.count() == 1


def test_undecided_places_are_named_and_choices_kept(manager: models.Staff) -> None:
    sides = ({"last_name": f"{s}l", "first_name": f"{s}f"} for s in ("Mine", "Theirs"))
    key, found = filed(manager, *sides)
    client = signed_in(manager)
    page = client.get(url("change", found))
    again = client.post(url("change", found), sent(page, choice_0="value", value_0="Half"))
    assert again.status_code == 422
    first, second = again.context["places"]
    assert (first.choice, first.typed, second.choice) == ("value", "Half", "")
    assert second.complaint
    assert store.version_of(f"user-{key}") == 2


def test_preview_applies_the_rules_of_the_record_and_writes_nothing(manager: models.Staff) -> None:
    sides = ({"email": f"{side}@example.org"} for side in ("mine", "theirs"))
    key, found = filed(manager, *sides)
    client = signed_in(manager)
    page = client.get(url("change", found))
    for view in ("change", "preview"):
        asked = sent(page, choice_0="value", value_0="no address", preview="1")
        text = client.post(url(view, found), asked).content.decode()
        assert "valid email" in text
        asked = sent(page, choice_0="value", value_0="typed@example.org", preview="1")
        assert "<ins>typed@example.org</ins>" in client.post(url(view, found), asked).content.decode()
    assert store.version_of(f"user-{key}") == 2
    assert store.version_of(f"conflict-{found}") == 1


def test_critical_fields_require_a_reason(manager: models.Staff) -> None:
    key, found = filed(manager, {"plan": "premium"}, {"plan": "enterprise"})
    client = signed_in(manager)
    page = client.get(url("change", found))
    again = client.post(url("change", found), sent(page, choice_0="mine") | {"reason": ""})
    assert (again.status_code, bool(again.context["reason_complaint"])) == (422, True)
    assert client.post(url("change", found), sent(page, choice_0="mine")).status_code == 302
    assert state(key)["plan"] == "premium"


def test_record_changed_again_is_shown_with_the_choices_kept(manager: models.Staff) -> None:
    key, found = conflict(manager)
    client = signed_in(manager)
    page = client.get(url("change", found))
    factories.update(key, last_name="Theirs again")
    again = client.post(url("change", found), sent(page, choice_0="value", value_0="Typed"))
    (place,) = again.context["places"]
    assert (again.status_code, place.theirs, place.choice, place.typed) == (409, "Theirs again", "value", "Typed")
    assert client.post(url("change", found), sent(again, choice_0="value", value_0="Typed")).status_code == 302
    assert state(key)["last_name"] == "Typed"


def test_second_person_sees_the_existing_resolution(manager: models.Staff) -> None:
    key, found = conflict(manager)
    client, other = signed_in(manager), signed_in(api_client.staff("agent"))
    page = other.get(url("change", found))
    client.post(url("change", found), sent(client.get(url("change", found)), choice_0="mine"))
    late = other.post(url("change", found), sent(page, choice_0="theirs"))
    assert late.status_code == 409
    assert "This conflict is already closed" in late.content.decode()
    assert state(key)["last_name"] == "Mine"
    shown = other.get(url("change", found))
    assert not shown.context["can_settle"]
    (place,) = shown.context["places"]
    assert (place.theirs, place.mine) == ("Theirs", "Mine")


def test_questions_are_resolved_one_by_one(manager: models.Staff) -> None:
    def fields(a: str, b: str) -> list[dict[str, Any]]:
        return [{"id": "a", "type": "text", "label": a}, {"id": "b", "type": "text", "label": b}]

    key = factories.form(fields=fields("A", "B"))
    commands.dispatch(factories.command(forms.UpdateForm(fields=fields("A theirs", "B theirs")), key))
    command = factories.command(forms.UpdateForm(fields=fields("A mine", "B")[:1]), key, base_version=1)
    with pytest.raises(errors.Conflict):
        entry_point.dispatch(command, manager)
    client, found = signed_in(manager), domain.id_for(command.id)
    page = client.get(url("change", found))
    assert [place.path for place in page.context["places"]] == ["fields[a].label", "fields[b]"]
    assert [place.entry for place in page.context["places"]] == ["text", "json"]
    wrong = client.post(url("change", found), sent(page, choice_0="mine", choice_1="value", value_1="{"))
    assert wrong.context["places"][1].complaint == "Invalid JSON at line 1, column 2."
    assert client.post(url("change", found), sent(page, choice_0="mine", choice_1="mine")).status_code == 302
    assert snapshots.state_dict(f"form-{key}")[0]["fields"] == fields("A mine", "B")[:1]


# -- the inbox --------------------------------------------------------------------------------------------------------


def ids(response: Any) -> set[Any]:
    return {row["item"].pk for row in response.context["rows"]}


def test_inbox_is_filtered_by_person_status_kind_and_record(manager: models.Staff) -> None:
    made = [conflict(manager) for _ in range(3)]
    inbox.act(made[0][1], manager, domain.AssignConflict(assignee=manager.pk))
    inbox.act(made[1][1], manager, domain.DismissConflict())
    client = signed_in(manager)
    assert ids(client.get(INBOX)) == {made[0][1], made[2][1]}
    assert ids(client.get(f"{INBOX}?whose=mine")) == {made[0][1]}
    assert ids(client.get(f"{INBOX}?whose=team")) == {made[0][1]}
    assert ids(signed_in(api_client.staff("agent")).get(f"{INBOX}?whose=team")) == set()
    oldest = client.get(f"{INBOX}?status=any&sort=created_at").context["rows"]
    # All have the same time and are ordered by id.
    assert [row["item"].pk for row in oldest] == sorted(found for _, found in made)
    assert ids(client.get(f"{INBOX}?status=dismissed")) == {made[1][1]}
    assert ids(client.get(f"{INBOX}?kind=form")) == set()
    assert ids(client.get(f"{INBOX}?record=user-{made[2][0]}")) == {made[2][1]}
    for odd in ("record=user-nonsense", "record=x", "status=odd", "kind=odd", "cursor=odd", "sort=odd"):
        assert client.get(f"{INBOX}?{odd}", follow=True).status_code == 200


def test_several_conflicts_are_discarded_or_assigned_together(manager: models.Staff) -> None:
    made = [conflict(manager)[1] for _ in range(3)]
    client = signed_in(manager)
    client.post(f"{INBOX}bulk/", {"do": "take", "id": [str(key) for key in made[:2]]})
    assert set(models.Conflict.objects.filter(assignee=manager).values_list("pk", flat=True)) == set(made[:2])
    client.post(f"{INBOX}bulk/", {"do": "dismiss", "id": [str(made[2])], "reason": "old"})
    assert models.Conflict.objects.get(pk=made[2]).status == "dismissed"
    assert store.read_stream(f"conflict-{made[2]}")[-1].reason == "old"
    assert client.post(f"{INBOX}bulk/", {"do": "dismiss", "id": "x"}).status_code == 400
    assert client.get(f"{INBOX}bulk/").status_code == 403


def test_navigation_shows_the_number_of_open_conflicts(manager: models.Staff) -> None:
    made = [conflict(manager)[1] for _ in range(2)]
    client = signed_in(manager)
    assert client.get(f"{INBOX}count/").json()["everybody"] == 2
    badge = re.search(r'data-inbox-badge="([^"]+)"\s*>(\d+)<', client.get("/admin/").content.decode())
    assert badge is not None
    assert badge.groups() == ("/admin/backoffice/conflict/count/", "2")
    inbox.act(made[0], manager, domain.DismissConflict())
    assert client.get(f"{INBOX}count/").json()["everybody"] == 1


def test_live_page_fetches_new_and_changed_rows(manager: models.Staff) -> None:
    made = [conflict(manager)[1] for _ in range(2)]
    response = signed_in(manager).get(f"{INBOX}rows/?ids={made[0]}&new={made[1]}")
    assert str(made[0]) in response.content.decode()
    assert response["X-New"] == str(made[1])
    assert signed_in(manager).get(f"{INBOX}rows/?ids=x").status_code == 400


def test_conflict_is_assigned_commented_discarded_and_reopened(manager: models.Staff) -> None:
    _, found = conflict(manager)
    client = signed_in(manager)
    client.post(url("act", found), {"do": "assign", "assignee": manager.pk})
    client.post(url("act", found), {"do": "comment", "text": "Who <knows>?"})
    client.post(url("act", found), {"do": "dismiss"})
    text = client.get(url("change", found)).content.decode()
    assert "Who &lt;knows&gt;?" in text
    assert models.Conflict.objects.get(pk=found).status == "dismissed"
    client.post(url("act", found), {"do": "reopen"})
    assert models.Conflict.objects.get(pk=found).status == "open"
    assert client.post(url("act", found), {"do": "explode"}).status_code == 400


# -- permissions ------------------------------------------------------------------------------------------------------


def test_viewer_sees_no_address_in_a_conflict_and_resolves_nothing(manager: models.Staff) -> None:
    mine, theirs = ({"email": f"secret-{side}@example.org", "last_name": side} for side in ("mine", "theirs"))
    key, found = filed(manager, mine, theirs)
    inbox.act(found, manager, domain.CommentConflict(text="secret-mine@example.org"))
    viewer = signed_in(api_client.staff("viewer"))
    for _settled in range(2):
        for address in (INBOX, f"{INBOX}?status=any", url("change", found), f"{INBOX}rows/?ids={found}"):
            response = viewer.get(address)
            assert response.status_code == 200
            assert "secret" not in response.content.decode()
        page = viewer.get(url("change", found))
        assert [place.path for place in page.context["places"]] == ["last_name"]
        attempts = {"path-0": "email", "choice-0": "mine", "path-1": "last_name", "choice-1": "mine"}
        for address in (url("change", found), url("preview", found)):
            assert viewer.post(address, attempts).status_code == 403
        assert viewer.post(url("act", found), {"do": "dismiss"}).status_code == 403
        assert viewer.post(f"{INBOX}bulk/", {"do": "dismiss", "id": [str(found)]}).status_code == 403
        if not _settled:
            inbox.resolve(found, manager, {"email": "mine", "last_name": "mine"})
    assert store.version_of(f"user-{key}") == 3


def test_read_only_field_of_an_agent_is_locked_and_refused(manager: models.Staff) -> None:
    key, found = filed(manager, {"plan": "premium"}, {"plan": "enterprise"})
    agent = signed_in(api_client.staff("agent"))
    page = agent.get(url("change", found))
    assert page.context["places"][0].locked
    assert agent.post(url("change", found), sent(page, choice_0="mine")).status_code == 403
    assert state(key)["plan"] == "enterprise"
    assert agent.post(url("change", found), sent(page, choice_0="theirs")).status_code == 302


def test_conflict_about_a_hidden_kind_returns_404(manager: models.Staff) -> None:
    from backoffice.sections.site_settings import domain as settings

    for value in (1, 2):
        commands.dispatch(factories.command(settings.SetSetting(value=value), "a.b"))
    command = factories.command(settings.SetSetting(value=3), "a.b", base_version=1)
    with pytest.raises(errors.Conflict):
        entry_point.dispatch(command, api_client.staff("admin"))
    agent = signed_in(api_client.staff("agent"))
    for name in ("change", "preview", "act"):
        assert agent.post(url(name, domain.id_for(command.id)), {"do": "dismiss"}).status_code == 404
    assert ids(agent.get(INBOX)) == set()
