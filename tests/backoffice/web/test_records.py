"""Record pages of the admin: every write is a command, no input is lost, hidden fields stay hidden."""

from __future__ import annotations

import json
import re
import uuid
from typing import Any

import pytest
from django.test import Client
from django.urls import NoReverseMatch, reverse

from backoffice import models
from backoffice.sections.site_settings import domain as settings_domain
from backoffice.sections.users import domain as users
from events import commands, head, snapshots, store, types
from tests import factories
from tests.backoffice import api_client

pytestmark = pytest.mark.django_db


@pytest.fixture
def people(db: None) -> dict[str, models.Staff]:
    return {
        role: models.Staff.objects.create_user(username=role, role=role, is_staff=True, is_superuser=role == "admin")
        for role in models.Staff.Role.values
    }


@pytest.fixture
def admin(people: dict[str, models.Staff]) -> Client:
    return signed_in(people, "admin")


def signed_in(people: dict[str, models.Staff], role: str) -> Client:
    client = Client()
    client.force_login(people[role])
    return client


def url(view: str, category: str = "user", *args: Any) -> str:
    return reverse(f"admin:backoffice_{category}_{view}", args=args)


def inputs(response: Any) -> dict[str, str]:
    """Returns the data that the page's form would send unchanged."""
    form = response.context["form"]
    values = {field.name: field.value() for field in form}
    return {name: value for name, value in values.items() if value not in (None, False)}


def opened(client: Client, key: Any, category: str = "user") -> dict[str, Any]:
    return inputs(client.get(url("change", category, key)))


def events_of(stream: str) -> list[types.RecordedEvent]:
    return store.read_stream(stream)


# -- saving ---------------------------------------------------------------------------------------------------------


def test_save_writes_one_event_with_changes_actor_and_reason(admin: Client) -> None:
    key = factories.user(first_name="Ada", last_name="Lovelace")
    form = opened(admin, key)
    response = admin.post(url("change", "user", key), form | {"last_name": "King", "reason": "Married"})
    assert response.status_code == 302
    event = events_of(f"user-{key}")[-1]
    assert (event.type, event.data, event.reason) == ("user.updated", {"last_name": "King"}, "Married")
    assert event.actor.startswith("staff:")
    assert models.User.objects.get(pk=key).last_name == "King"


def test_double_click_is_one_change(admin: Client) -> None:
    key = factories.user()
    form = opened(admin, key) | {"last_name": "King"}
    for _click in range(2):
        assert admin.post(url("change", "user", key), form).status_code == 302
    assert len(events_of(f"user-{key}")) == 2


def test_edit_after_the_back_button_is_another_change(admin: Client) -> None:
    key = factories.user()
    form = opened(admin, key)
    admin.post(url("change", "user", key), form | {"last_name": "King"})
    response = admin.post(url("change", "user", key), form | {"first_name": "Ada", "last_name": ""})
    assert response.status_code == 302
    user = models.User.objects.get(pk=key)
    assert (user.first_name, user.last_name) == ("Ada", "King")


def test_unchanged_save_writes_nothing_and_shows_a_message(admin: Client) -> None:
    key = factories.user(first_name="Ada")
    response = admin.post(url("change", "user", key), opened(admin, key), follow=True)
    assert len(events_of(f"user-{key}")) == 1
    assert "Nothing was changed." in response.content.decode()


@pytest.mark.parametrize("field", ["email", "plan", "role"])
def test_critical_fields_require_a_reason(admin: Client, field: str) -> None:
    key = factories.user()
    value = {"email": "new@example.org", "plan": "premium", "role": "partner"}[field]
    form = opened(admin, key) | {field: value}
    response = admin.post(url("change", "user", key), form)
    assert response.status_code == 422
    assert "reason" in response.context["form"].errors
    assert admin.post(url("change", "user", key), form | {"reason": "They asked"}).status_code == 302


def test_domain_error_appears_at_its_field_and_input_is_kept(admin: Client) -> None:
    factories.user(email="taken@example.org")
    key = factories.user()
    form = opened(admin, key) | {"email": "taken@example.org", "first_name": "Typed", "reason": "x"}
    response = admin.post(url("change", "user", key), form)
    assert response.status_code == 422
    assert response.context["form"].errors["email"] == ["Another user has this email address."]
    assert 'value="Typed"' in response.content.decode()


def test_too_long_reason_is_refused_before_anything_is_written(admin: Client) -> None:
    key = factories.user()
    response = admin.post(url("change", "user", key), opened(admin, key) | {"first_name": "A", "reason": "x" * 201})
    assert response.status_code == 422
    assert len(events_of(f"user-{key}")) == 1


# -- two people -----------------------------------------------------------------------------------------------------


def test_stale_save_of_other_fields_is_merged_and_names_the_other_person(admin: Client) -> None:
    key = factories.user(first_name="Ada", last_name="L")
    form = opened(admin, key)
    factories.update(key, last_name="Lovelace")
    response = admin.post(url("change", "user", key), form | {"first_name": "Augusta"}, follow=True)
    user = models.User.objects.get(pk=key)
    assert (user.first_name, user.last_name) == ("Augusta", "Lovelace")
    assert "and merged with changes by FormEase" in response.content.decode()


def test_stale_save_of_the_same_field_is_filed_in_the_inbox(admin: Client) -> None:
    key = factories.user(first_name="Ada", last_name="L")
    form = opened(admin, key)
    factories.update(key, last_name="Theirs")
    typed = form | {"last_name": "Mine", "first_name": "Augusta", "reason": "Asked by phone"}
    response = admin.post(url("change", "user", key), typed)
    (row,) = models.Conflict.objects.filter(category="user", key=str(key))
    assert response["Location"] == reverse("admin:backoffice_conflict_change", args=[row.pk])
    filed = events_of(f"conflict-{row.pk}")[0].data["command"]
    assert filed["data"] == {"first_name": "Augusta", "last_name": "Mine"}
    assert filed["reason"] == "Asked by phone"
    assert len(events_of(f"user-{key}")) == 2, "nothing is applied half-way"


def test_untouched_stale_value_is_no_conflict(admin: Client) -> None:
    key = factories.user(email="old@example.org")
    form = opened(admin, key)
    factories.update(key, email="new@example.org")
    assert admin.post(url("change", "user", key), form | {"first_name": "Ada"}).status_code == 302
    assert models.User.objects.get(pk=key).email == "new@example.org"


def test_base_is_read_from_the_store_not_from_the_page(admin: Client) -> None:
    key = factories.user(first_name="Ada")
    form = opened(admin, key) | {"base_version": "999", "first_name": "B"}
    assert admin.post(url("change", "user", key), form).status_code in {302, 422}
    assert len(events_of(f"user-{key}")) <= 2


def test_record_that_changed_during_the_confirmation_is_shown_again(admin: Client) -> None:
    key = factories.user()
    form = inputs(admin.get(url("delete", "user", key)))
    factories.update(key, last_name="Changed")
    response = admin.post(url("delete", "user", key), form)
    assert response.status_code == 409
    assert models.User.objects.get(pk=key).deleted_at is None
    assert admin.post(url("delete", "user", key), inputs(response)).status_code == 302
    assert models.User.objects.get(pk=key).deleted_at is not None


def test_deleted_record_is_restored(admin: Client) -> None:
    key = factories.user()
    admin.post(url("delete", "user", key), inputs(admin.get(url("delete", "user", key))) | {"reason": "Asked for it"})
    assert "Restore" in admin.get(url("change", "user", key)).content.decode()
    admin.post(url("restore", "user", key))
    assert models.User.objects.get(pk=key).deleted_at is None
    assert [event.type for event in events_of(f"user-{key}")] == ["user.created", "user.deleted", "user.restored"]


def test_live_response_has_current_values_and_changes(admin: Client) -> None:
    key = factories.user(first_name="Ada")
    factories.update(key, first_name="Augusta")
    answer = admin.get(url("live", "user", key), {"since": 1}).json()
    assert answer["version"] == 2
    assert answer["values"]["first_name"] == "Augusta"
    assert [list(change["fields"]) for change in answer["changes"]] == [["first_name"]]


# -- adding ---------------------------------------------------------------------------------------------------------


def test_double_click_creates_one_record(admin: Client) -> None:
    form = inputs(admin.get(url("add"))) | {"email": "ada@example.org"}
    first, second = (admin.post(url("add"), form) for _click in range(2))
    assert first.status_code == second.status_code == 302
    assert first["Location"] == second["Location"]
    assert models.User.objects.count() == 1


def test_form_is_created_for_an_owner_named_by_address(admin: Client) -> None:
    owner = factories.user(email="ada@example.org")
    form = inputs(admin.get(url("add", "form")))
    unknown = admin.post(url("add", "form"), form | {"user_id": "nobody@example.org", "title": "Survey"})
    assert "user_id" in unknown.context["form"].errors
    admin.post(url("add", "form"), form | {"user_id": "Ada@Example.org", "title": "Survey"})
    assert models.Form.objects.get().user_id == owner


def test_unknown_properties_of_questions_are_kept(admin: Client) -> None:
    key = factories.form(fields=[{"id": "a", "type": "text", "label": "A", "x-width": 3}])
    form = opened(admin, key, "form")
    fields = json.loads(form["fields"])
    fields.append({"id": "b", "type": "rating", "label": "B"})
    assert admin.post(url("change", "form", key), form | {"fields": json.dumps(fields)}).status_code == 302
    assert models.Form.objects.get(pk=key).fields[0]["x-width"] == 3


@pytest.mark.parametrize("text", ["{", "{}", '[{"type": "text"}]', ""])
def test_invalid_questions_are_refused_and_shown_as_typed(admin: Client, text: str) -> None:
    key = factories.form(fields=[{"id": "a", "type": "text"}])
    response = admin.post(url("change", "form", key), opened(admin, key, "form") | {"fields": text})
    assert response.status_code == 422
    assert "fields" in response.context["form"].errors
    assert response.context["form"]["fields"].value() == text


def test_line_ends_of_browsers_are_no_change(admin: Client) -> None:
    key = factories.form(description="one\ntwo")
    admin.post(url("change", "form", key), opened(admin, key, "form") | {"description": "one\r\ntwo"})
    assert len(events_of(f"form-{key}")) == 1


@pytest.mark.parametrize("value", ["true", "1", "1.5", "null", '"text"', '{"a": [1]}', "[]", '""'])
def test_setting_accepts_any_json_and_shows_it_unchanged(admin: Client, value: str) -> None:
    form = inputs(admin.get(url("add", "setting"))) | {"key": "mail.footer", "value": value}
    assert admin.post(url("add", "setting"), form).status_code == 302
    assert models.Setting.objects.get().value == json.loads(value)
    assert json.loads(opened(admin, "mail.footer", "setting")["value"]) == json.loads(value)


def test_true_and_one_are_different_values_of_a_setting(admin: Client) -> None:
    commands.dispatch(factories.command(settings_domain.SetSetting(value=1), "flag"))
    admin.post(url("change", "setting", "flag"), opened(admin, "flag", "setting") | {"value": "true"})
    assert models.Setting.objects.get().value is True


def test_new_setting_never_overwrites_an_existing_one(admin: Client) -> None:
    commands.dispatch(factories.command(settings_domain.SetSetting(value=1), "flag"))
    form = inputs(admin.get(url("add", "setting"))) | {"key": "flag", "value": "2"}
    response = admin.post(url("add", "setting"), form)
    assert response.status_code == 422
    assert models.Setting.objects.get().value == 1


# -- permissions ------------------------------------------------------------------------------------------------------

SECRET = "hidden.from.viewers@example.org"


@pytest.fixture
def traces(admin: Client) -> dict[str, Any]:
    """Creates a user with an address, an address that changed, and a submission with answers."""
    user = factories.user(email=SECRET)
    factories.update(user, email=f"x{SECRET}")
    form = factories.form(owner=user, fields=[{"id": "q", "type": "text", "label": "Q"}])
    return {"user": user, "form": form, "submission": factories.submission(form, q="SECRET-ANSWER")}


def addresses(traces: dict[str, Any]) -> list[str]:
    found = []
    for category, key in traces.items():
        found += [url("changelist", category), f"{url('rows', category)}?ids={key}", url("change", category, key)]
        found += [
            url("history", category, key),
            url("version", category, key, 1),
            url("live", category, key) + "?since=0",
        ]
        found += [url("compare", category, key) + "?a=1&b=2"]
    return [*found, reverse("admin:index"), reverse("admin:search") + f"?q={SECRET}"]


def test_viewer_sees_hidden_fields_on_no_page(people: dict[str, models.Staff], traces: dict[str, Any]) -> None:
    viewer = signed_in(people, "viewer")
    for address in addresses(traces):
        response = viewer.get(address)
        assert response.status_code == 200, address
        text = response.content.decode()
        for said_by_themselves in (f'value="{SECRET}"', f"?q={SECRET}"):
            text = text.replace(said_by_themselves, "")
        assert SECRET not in text, address
        assert "SECRET-ANSWER" not in text, address


def test_admin_sees_all_fields(admin: Client, traces: dict[str, Any]) -> None:
    texts = [admin.get(address).content.decode() for address in addresses(traces)]
    assert sum(SECRET in text for text in texts) >= 6
    assert any("SECRET-ANSWER" in text for text in texts)


def test_viewer_changes_nothing(people: dict[str, models.Staff], traces: dict[str, Any]) -> None:
    viewer = signed_in(people, "viewer")
    user = traces["user"]
    before = store.version_of(f"user-{user}")
    for view, args in (
        ("change", [user]),
        ("delete", [user]),
        ("restore", [user]),
        ("add", []),
        ("rollback", [user, 1]),
    ):
        response = viewer.post(
            url(view, "user", *args), {"first_name": "X", "email": "x@example.org", "base_version": before}
        )
        assert response.status_code == 403, view
    assert store.version_of(f"user-{user}") == before
    assert "data-edit" not in viewer.get(url("change", "user", user)).content.decode()


def test_agent_cannot_submit_a_read_only_field(people: dict[str, models.Staff]) -> None:
    key = factories.user(plan="free")
    agent = signed_in(people, "agent")
    form = opened(agent, key) | {"plan": "enterprise", "first_name": "Ada"}
    assert agent.post(url("change", "user", key), form).status_code == 302
    user = models.User.objects.get(pk=key)
    assert (user.plan, user.first_name) == ("free", "Ada")


@pytest.mark.parametrize(
    ("role", "pages"),
    [
        ("agent", {"setting": 403, "submission": 200}),
        ("viewer", {"setting": 403, "submission": 200}),
        ("dpo", {"setting": 200, "submission": 200}),
        ("manager", {"setting": 200, "form": 200}),
    ],
)
def test_lists_are_open_to_roles_that_may_view_them(
    people: dict[str, models.Staff], role: str, pages: dict[str, int]
) -> None:
    client = signed_in(people, role)
    for category, status in pages.items():
        assert client.get(url("changelist", category)).status_code == status


def test_log_requires_the_right_to_view_events(people: dict[str, models.Staff], traces: dict[str, Any]) -> None:
    log = reverse("admin:events_storedevent_changelist")
    assert {role: signed_in(people, role).get(log).status_code for role in people} == {
        "admin": 200, "manager": 200, "agent": 403, "viewer": 403, "dpo": 200,
    }  # fmt: skip


def test_anonymous_visitor_is_sent_to_the_sign_in_page(traces: dict[str, Any]) -> None:
    for address in addresses(traces):
        response = Client().get(address)
        assert response.status_code == 302, address
        assert "/login/" in response["Location"]


def test_missing_record_returns_404(admin: Client) -> None:
    for key in (uuid.uuid4(), "no-id"):
        for view in ("change", "history", "delete", "live"):
            assert admin.get(url(view, "user", key)).status_code == 404, view


# -- lists ----------------------------------------------------------------------------------------------------------


def test_rows_are_fetched_by_id_and_new_ones_counted_with_the_filters(admin: Client) -> None:
    free, premium = factories.user(plan="free"), factories.user(plan="premium")
    response = admin.get(url("rows"), {"ids": str(free), "new": f"{free},{premium}", "plan": "premium"})
    assert re.findall(r'data-id="([^"]+)"', response.content.decode()) == [str(free)]
    assert response["X-New"] == str(premium)


def test_invalid_parameter_is_reported_and_ignored(admin: Client) -> None:
    factories.user(first_name="Ada")
    response = admin.get(url("changelist"), {"nonsense": "1", "sort": "nope", "q": "ada"}, follow=True)
    text = response.content.decode()
    assert "nonsense" in text
    assert [row["name"] for row in response.context["rows"]] == ["Ada"]
    assert response.request["QUERY_STRING"] == "q=ada"


@pytest.mark.django_db(transaction=True)  # an open transaction delays the head
def test_position_of_a_list_page_is_read_before_its_rows(admin: Client) -> None:
    factories.user()
    stamp = admin.get(url("changelist")).context["stamp"]
    assert stamp.position == head.safe(), "the row is there, but its transaction is still open"
    assert uuid.UUID(stamp.epoch)


# -- history --------------------------------------------------------------------------------------------------------


def test_history_shows_actor_time_reason_and_changes(admin: Client) -> None:
    key = factories.user(last_name="L")
    admin.post(url("change", "user", key), opened(admin, key) | {"last_name": "Lovelace", "reason": "Spelled out"})
    entry, first = admin.get(url("history", "user", key)).context["entries"]
    assert (entry.version, entry.actor.name, entry.event.reason) == (2, "admin", "Spelled out")
    assert [(line.label, line.before, line.after) for line in entry.lines] == [("last name", "L", "Lovelace")]
    assert first.version == 1


def test_long_history_is_paginated(admin: Client) -> None:
    key = factories.user()
    for number in range(40):
        factories.update(key, last_name=f"Name {number}")
    page = admin.get(url("history", "user", key)).context
    assert [entry.version for entry in page["entries"]] == list(range(41, 11, -1))
    older = admin.get(url("history", "user", key), {"before": page["older"]}).context
    assert [entry.version for entry in older["entries"]] == list(range(11, 0, -1))
    assert older["entries"][0].lines[0].before == "Name 8"


def test_moved_and_edited_questions_are_listed_one_by_one(admin: Client) -> None:
    a, b, c = ({"id": name, "type": "text", "label": name.upper()} for name in "abc")
    key = factories.form(fields=[a, b, c])
    form = opened(admin, key, "form")
    admin.post(url("change", "form", key), form | {"fields": json.dumps([c, a | {"label": "New"}, b])})
    lines = admin.get(url("history", "form", key)).context["entries"][0].lines
    assert {(line.label, line.kind) for line in lines} == {
        ("Question “New” › label", "changed"),
        ("Question “C”", "moved"),
    }


def test_older_version_is_restored_as_a_new_one(admin: Client) -> None:
    key = factories.user(first_name="Ada", last_name="L")
    factories.update(key, first_name="X", last_name="Y")
    page = admin.get(url("rollback", "user", key, 1))
    assert {line.label for line in page.context["lines"]} == {"first name", "last name"}
    response = admin.post(url("rollback", "user", key, 1), inputs(page))
    assert response.status_code == 302
    user = models.User.objects.get(pk=key)
    assert (user.first_name, user.last_name, user.version) == ("Ada", "L", 3)
    assert events_of(f"user-{key}")[-1].reason == "Back to version 1"


@pytest.mark.django_db(transaction=True)  # an open transaction delays the head
def test_log_is_filtered_by_stream_type_actor_and_request(admin: Client) -> None:
    key = factories.user()
    factories.update(key, last_name="L")
    log = reverse("admin:events_storedevent_changelist")
    by_stream = admin.get(log, {"stream": f"user-{key}"}).context["rows"]
    assert [row.event.type for row in by_stream] == ["user.updated", "user.created"]
    assert len(admin.get(log, {"stream": f"user-{key}", "type": "user.created"}).context["rows"]) == 1
    assert admin.get(log, {"actor": "nobody"}).context["rows"] == []
    correlation = by_stream[0].event.correlation_id
    assert {row.event.position for row in admin.get(log, {"correlation": correlation}).context["rows"]} == {
        by_stream[0].event.position
    }
    assert admin.get(log, {"correlation": "x", "since": "never"}).context["wrong"] == ["correlation", "since"]


@pytest.mark.django_db(transaction=True)  # an open transaction delays the head
def test_event_page_shows_the_whole_event(admin: Client) -> None:
    key = factories.user(email="shown@example.org")
    (event,) = events_of(f"user-{key}")
    page = admin.get(reverse("admin:events_storedevent_change", args=[event.position])).content.decode()
    assert "shown@example.org" in page
    assert str(event.event_id) in page
    assert admin.get(reverse("admin:events_storedevent_change", args=[event.position + 99])).status_code == 404


@pytest.mark.parametrize("language", ["en", "fr"])
def test_every_page_renders_in_both_languages(admin: Client, traces: dict[str, Any], language: str) -> None:
    admin.cookies["django_language"] = language
    for address in [
        *addresses(traces),
        reverse("admin:events_storedevent_changelist"),
        url("add"),
        url("changelist", "staff"),
    ]:
        response = admin.get(address)
        assert response.status_code == 200
        if "text/html" in response["Content-Type"] and "rows/" not in address:
            assert f'<html lang="{language}"' in response.content.decode()


@pytest.mark.parametrize("role", api_client.ROLES)
def test_action_that_a_kind_does_not_have_is_refused(role: str) -> None:
    """No page edits, restores or rolls back answers: such a form is refused even when sent by hand."""
    key = factories.submission(q="x")
    client = api_client.signed_in(role).client
    address = reverse("admin:backoffice_submission_change", args=[key])
    assert client.get(address).status_code == 200
    assert client.post(address, {"reason": "x", "base_version": "1"}).status_code == 403
    for name, more in (("rollback", [1]), ("restore", [])):
        try:
            address = reverse(f"admin:backoffice_submission_{name}", args=[key, *more])
        except NoReverseMatch:
            continue
        assert client.post(address, {"reason": "x"}).status_code in (403, 404), name


def test_open_page_learns_of_a_deletion_between_two_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    key, real = factories.user(), snapshots.state_dict

    def late(stream: str) -> Any:
        commands.dispatch(factories.command(users.DeleteUser(), key))
        return real(stream)

    monkeypatch.setattr(snapshots, "state_dict", late)
    answer = api_client.signed_in("admin").client.get(reverse("admin:backoffice_user_live", args=[key])).json()
    assert (answer["version"], answer["deleted"]) == (2, True)


def test_submissions_are_told_apart_by_the_end_of_their_id(admin: Client) -> None:
    """Ids begin with the time, so those of one minute have the same beginning."""
    key = factories.submission(form := factories.form())
    for address in (url("changelist", "submission"), url("change", "form", form)):
        html = admin.get(address).content.decode()
        assert f'mono">{str(key)[-12:]}<' in html
        assert f">{key}<" not in html
