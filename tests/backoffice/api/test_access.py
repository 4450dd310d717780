"""Permissions of the API by role, field and scope, including attempts to bypass them."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from backoffice import access, section
from backoffice import commands as entry_point
from backoffice.models import ApiKey, User
from backoffice.sections.staff import keys
from events import errors, store, types
from tests import factories
from tests.backoffice import api_client
from tests.backoffice.api_client import problem

pytestmark = pytest.mark.django_db

RESOURCES = {kind.category: kind.name for kind in section.kinds()}
SECRET = "hidden-away"


def body_of(kind: str, owner: uuid.UUID, form: uuid.UUID) -> dict[str, Any]:
    return {
        "user.create": {"email": api_client.email()},
        "user.update": {"first_name": "Ada"},
        "form.create": {"user_id": str(owner), "title": "A form"},
        "form.update": {"title": "Another title"},
        "submission.receive": {"form_id": str(form), "answers": {}},
        "setting.set": {"value": 2},
        "rule.create": {"title": "Queue", "metric": "queue.depth", "warn": 100},
        "rule.update": {"warn": 200},
        "silence.create": {"title": "Upgrade", "ends_at": "2100-01-01T00:00:00Z"},
        "silence.update": {"title": "Restart"},
    }.get(kind, {})


@pytest.fixture
def records() -> dict[str, Any]:
    """Creates one record of each kind, with data in each field that some role must not see."""
    owner = factories.user(email=f"{SECRET}@example.org", first_name="Ada", last_name="Lovelace")
    form = factories.form(owner)
    submission = factories.submission(form, question=SECRET)
    keys = {"setting": "limits.uploads", "rule": f"queue_{uuid.uuid4().hex[:8]}", "silence": str(uuid.uuid4())}
    admin, data = api_client.signed_in("admin"), {"setting.set": {"value": 1}}
    for command in ("setting.set", "rule.create", "silence.create"):
        body = data.get(command) or body_of(command, owner, form)
        assert admin.command(command, keys[command.partition(".")[0]], body).status_code == 200
    return {"user": owner, "form": form, "submission": submission, **keys}


# -- role × resource × action ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", api_client.ROLES)
@pytest.mark.parametrize(
    "kind", [name for kind in types.command_types() if (name := kind.name).partition(".")[0] in RESOURCES]
)
def test_command_requires_a_role_that_may_send_it(role: str, kind: str, records: dict[str, Any]) -> None:
    category, _, action = kind.partition(".")
    new = action in {"create", "receive"}
    key = ("another_rule" if category == "rule" else uuid.uuid4()) if new else records[category]
    before = store.version_of(f"{category}-{key}")
    body = body_of(kind, records["user"], records["form"])
    response = api_client.signed_in(role).command(kind, key, body, reason="asked by letter")
    if access.role_may(role, action, category):
        assert response.status_code == 200, response.content
    else:
        assert problem(response, 403, "forbidden")["missing"] == kind
        assert store.version_of(f"{category}-{key}") == before


@pytest.mark.parametrize("role", api_client.ROLES)
@pytest.mark.parametrize("category", RESOURCES)
def test_reading_requires_a_role_that_may_view(role: str, category: str, records: dict[str, Any]) -> None:
    caller, name, key = api_client.signed_in(role), RESOURCES[category], records[category]
    paths = [f"{name}/", f"{name}/{key}/", f"streams/{category}-{key}/", f"streams/{category}-{key}/state/"]
    for response in (caller.get(path) for path in paths):
        if access.role_may(role, "view", category):
            assert response.status_code == 200, response.content
        else:
            assert problem(response, 403, "forbidden")["missing"] == f"{category}.view"


@pytest.mark.parametrize("role", api_client.ROLES)
def test_whole_log_requires_the_right_to_view_events(role: str) -> None:
    response = api_client.signed_in(role).get("events/")
    assert response.status_code == (200 if access.role_may(role, "view", "event") else 403)


def test_stream_of_an_unknown_kind_requires_the_right_to_view_events() -> None:
    problem(api_client.signed_in("viewer").get("streams/alert-cpu/"), 403, "forbidden")
    problem(api_client.signed_in("manager").get("streams/alert-cpu/"), 404, "not_found")


@pytest.mark.parametrize("role", api_client.ROLES)
@pytest.mark.parametrize(("method", "action"), [("PATCH", "update"), ("DELETE", "delete")])
def test_patch_and_delete_need_the_rights_of_their_commands(
    role: str, method: str, action: str, records: dict[str, Any]
) -> None:
    path = f"users/{records['user']}/"
    response = api_client.signed_in(role).send(method, path, {"first_name": "Grace"}, If_Match='"v1"')
    assert response.status_code == (200 if access.role_may(role, action, "user") else 403)


# -- fields ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["plan", "role"])
def test_read_only_field_is_refused_by_name(field: str, records: dict[str, Any]) -> None:
    agent, key = api_client.signed_in("agent"), records["user"]
    change = {"first_name": "Grace", field: {"plan": "enterprise", "role": "owner"}[field]}
    by_command = agent.command("user.update", key, change)
    by_patch = agent.patch(f"users/{key}/", change, If_Match='"v1"')
    for response in (by_command, by_patch):
        assert problem(response, 403, "forbidden")["missing"] == f"user.{field}"
    assert User.objects.get(pk=key).first_name == "Ada"


def test_hidden_fields_appear_in_no_response(records: dict[str, Any]) -> None:
    viewer, manager = api_client.signed_in("viewer"), api_client.signed_in("manager")
    for category, hidden in (("user", "email"), ("submission", "answers")):
        name, key = RESOURCES[category], records[category]
        paths = [f"{name}/", f"{name}/{key}/", f"streams/{category}-{key}/", f"streams/{category}-{key}/state/"]
        for path in [*paths, f"{paths[-1]}?version=1", f"{paths[-1]}?at=2100-01-01T00:00:00Z"]:
            seen, all_of_it = viewer.get(path), manager.get(path)
            assert seen.status_code == all_of_it.status_code == 200
            assert SECRET.encode() in all_of_it.content, path
            assert SECRET.encode() not in seen.content, path
            assert hidden.encode() not in seen.content, path


def test_log_is_redacted_for_the_role(records: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    factories.hide(monkeypatch, "dpo", "user", "email")
    dpo = api_client.signed_in("dpo")
    shown = dpo.get(f"streams/user-{records['user']}/").json()["items"][0]["data"]
    assert shown["first_name"] == "Ada"
    assert "email" not in shown


def test_conflict_response_reveals_no_hidden_field(monkeypatch: pytest.MonkeyPatch) -> None:
    factories.hide(monkeypatch, "agent", "user", "email")
    key = factories.user(email="first@example.org", first_name="Ada")
    factories.update(key, email="second@example.org", first_name="Augusta")
    agent = api_client.signed_in("agent")
    by_command = agent.command("user.update", key, {"first_name": "Adele"}, base_version=1)
    by_patch = agent.patch(f"users/{key}/", {"first_name": "Adele"}, If_Match='"v1"')
    for response, status, code in ((by_command, 409, "conflict"), (by_patch, 412, "precondition_failed")):
        found = problem(response, status, code)
        assert found["fields"] == ["first_name"]
        assert b"@example.org" not in response.content
        assert all("email" not in found[side] for side in ("base", "theirs", "mine"))


def test_conflict_and_merge_omit_hidden_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    factories.hide(monkeypatch, "agent", "form", "fields")

    sides = {"title": "A", "fields": []}
    conflict = errors.Conflict(
        stream="form-1", base_version=1, version=2, base=sides, theirs=sides, mine=sides,
        fields=["fields[a].label", "title", "fields"],
    )  # fmt: skip
    shown = entry_point.redacted(api_client.staff("agent"), conflict)
    assert (shown.fields, shown.mine) == (["title"], {"title": "A"})


def test_merge_note_omits_hidden_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    key = factories.user(email="first@example.org", first_name="Ada")
    factories.update(key, email="second@example.org")
    manager = api_client.signed_in("manager")
    open_answer = manager.command("user.update", key, {"first_name": "Augusta"}, base_version=1).json()
    assert "email" in [note["path"] for note in open_answer["merged"]]
    factories.hide(monkeypatch, "agent", "user", "email")
    answer = api_client.signed_in("agent").command("user.update", key, {"last_name": "King"}, base_version=1).json()
    assert answer["status"] == "merged"
    assert "email" not in [note["path"] for note in answer["merged"]]


def test_hidden_field_cannot_be_filtered_or_sorted_by(records: dict[str, Any]) -> None:
    viewer, manager = api_client.signed_in("viewer"), api_client.signed_in("manager")
    assert len(manager.get(f"users/?search={SECRET}").json()["items"]) == 1
    assert viewer.get(f"users/?search={SECRET}").json()["items"] == []
    assert viewer.get(f"users/?search={SECRET}").json()["page_info"]["total_count"] == 0
    assert len(viewer.get("users/?search=lovelace").json()["items"]) == 1
    for sort in ("email", "-email"):
        found = problem(viewer.get(f"users/?sort={sort}"), 400, "unknown_sort")
        assert "email" not in found["allowed"]
    problem(viewer.get("users/?email=a"), 400, "unknown_parameter")
    problem(viewer.get("submissions/?answers=a"), 400, "unknown_parameter")
    assert viewer.get(f"submissions/?search={SECRET}").json()["items"] == []


def test_cursor_sorted_by_a_hidden_field_is_refused() -> None:
    for _ in range(3):
        factories.user()
    cursor = api_client.signed_in("manager").get("users/?sort=email&limit=1").json()["page_info"]["next_cursor"]
    viewer = api_client.signed_in("viewer")
    problem(viewer.get(f"users/?sort=email&limit=1&cursor={cursor}"), 400, "unknown_sort")
    problem(viewer.get(f"users/?limit=1&cursor={cursor}"), 400, "invalid_cursor")


# -- authentication ---------------------------------------------------------------------------------------------------

EVERYWHERE = ["users/", "forms/", "submissions/", "settings/", "events/", "streams/user-1/", "streams/user-1/state/"]


@pytest.mark.parametrize("path", [*EVERYWHERE, "users/018f0000-0000-7000-8000-000000000000/"])
def test_anonymous_read_returns_401(path: str) -> None:
    response = api_client.Caller().get(path)
    problem(response, 401, "not_authenticated")
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("path", ["commands/", "ingest/"])
def test_anonymous_write_returns_401(path: str) -> None:
    response = api_client.Caller().post(path, {})
    problem(response, 401, "not_authenticated")
    assert "WWW-Authenticate" in response.headers


@pytest.mark.parametrize("fields", [{"is_staff": False}, {"is_staff": False, "role": "admin"}, {"role": "nobody"}])
def test_login_without_staff_status_is_refused(fields: dict[str, Any]) -> None:
    role = fields.pop("role", "manager")
    response = api_client.signed_in(role, is_superuser=False, **fields).get("users/")
    problem(response, 403, "forbidden")


def test_deactivated_login_is_refused_at_once() -> None:
    caller, program = api_client.signed_in("manager"), api_client.program("users:read")
    for one in (caller, program):
        assert one.get("users/").status_code == 200
        type(one.person).objects.filter(pk=one.person.pk).update(is_active=False)  # type: ignore[union-attr]
        assert one.get("users/").status_code == 401


def test_session_write_requires_a_csrf_token() -> None:
    person, body = api_client.staff("manager"), b"{}"
    client = Client(enforce_csrf_checks=True)
    client.force_login(person)
    for path in ("commands/", "ingest/"):
        problem(client.post(api_client.BASE + path, body, "application/json"), 403, "csrf_failed")
    problem(client.delete(f"{api_client.BASE}users/{uuid.uuid4()}/"), 403, "csrf_failed")
    client.get("/api/docs/")
    token = client.cookies["csrftoken"].value
    response = client.post(api_client.BASE + "commands/", body, "application/json", headers={"X-CSRFToken": token})
    problem(response, 422, "invalid")


def test_key_needs_no_csrf_token_and_ignores_a_session() -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(api_client.staff("admin"))
    headers = api_client.program("users:read").headers
    response = client.post(api_client.BASE + "commands/", b"{}", "application/json", headers=headers)
    problem(response, 422, "invalid")
    problem(client.get(api_client.BASE + "forms/", headers=headers), 403, "missing_scope")


# -- keys -----------------------------------------------------------------------------------------------------------


def test_key_acts_under_its_own_name() -> None:
    program, key = api_client.program("users:write"), uuid.uuid4()
    assert program.command("user.create", key, {"email": api_client.email()}).status_code == 200
    event = store.read_stream(f"user-{key}")[0]
    assert event.actor == f"key:{ApiKey.objects.get().prefix}"
    assert event.metadata["actor_name"] == "program"


@pytest.mark.parametrize(
    ("scopes", "wanted", "granted"),
    [
        (["users:read"], "users:read", True),
        (["users:write"], "users:read", True),
        (["users:*"], "users:write", True),
        (["*"], "settings:write", True),
        (["users:read"], "users:write", False),
        (["users:*"], "forms:read", False),
        (["forms:*", "submissions:*", "settings:*", "users:read"], "events:read", False),
        (["ingest:write"], "users:write", False),
        (["users:*"], "ingest:write", False),
        ([], "users:read", False),
    ],
)
def test_scopes_limit_a_key(scopes: list[str], wanted: str, granted: bool) -> None:
    assert access.scopes_allow(scopes, wanted) is granted


@pytest.mark.parametrize(
    ("path", "scope"),
    [(f"{name}/", f"{name}:read") for name in RESOURCES.values()] + [("events/", "events:read")],
)
def test_refusal_names_the_missing_scope(path: str, scope: str) -> None:
    wrong = "forms:read" if scope != "forms:read" else "users:read"
    assert problem(api_client.program(wrong).get(path), 403, "missing_scope")["missing"] == scope
    assert api_client.program(scope).get(path).status_code == 200


def test_key_writes_only_within_its_scopes(records: dict[str, Any]) -> None:
    reader = api_client.program("users:*", "forms:read")
    response = reader.command("form.update", records["form"], {"title": "Another title"})
    assert problem(response, 403, "missing_scope")["missing"] == "forms:write"
    response = reader.delete(f"forms/{records['form']}/", If_Match='"v1"')
    assert problem(response, 403, "missing_scope")["missing"] == "forms:write"


def test_key_reads_a_stream_with_the_scope_of_its_record_or_of_the_log(records: dict[str, Any]) -> None:
    path = f"streams/user-{records['user']}/"
    assert api_client.program("users:read").get(path).status_code == 200
    assert api_client.program("events:read").get(path).status_code == 200
    problem(api_client.program("forms:read").get(path), 403, "missing_scope")


def test_scope_never_exceeds_the_rights_of_the_owner(records: dict[str, Any]) -> None:
    program = api_client.program("*", role="viewer")
    problem(program.command("user.update", records["user"], {"first_name": "Grace"}), 403, "forbidden")
    problem(program.get("settings/"), 403, "forbidden")
    problem(program.get("events/"), 403, "forbidden")
    assert "email" not in program.get("users/").json()["items"][0]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"revoked_at": timezone.now()}, "revoked_key"),
        ({"expires_at": timezone.now() - timedelta(seconds=1)}, "expired_key"),
        ({"secret_hash": ""}, "invalid_key"),
        ({"secret_hash": keys.hashed("another")}, "invalid_key"),
    ],
)
def test_expired_or_revoked_key_is_refused(change: dict[str, Any], code: str) -> None:
    response = api_client.program("users:read", **change).get("users/")
    problem(response, 401, code)
    assert 'error="invalid_token"' in response.headers["WWW-Authenticate"]


def test_expiry_is_reported_only_with_the_correct_secret() -> None:
    program = api_client.program("users:read", revoked_at=timezone.now())
    program.headers = {"Authorization": program.headers["Authorization"][:-1] + "!"}
    problem(program.get("users/"), 401, "invalid_key")


@pytest.mark.parametrize(
    "token", ["", "x", "fe_", "fe_.", "fe_a.b", "fe_a", ".", "fe_" + "a" * 5000 + ".b", "fe_a.b c", "é"]
)
def test_invalid_token_is_refused_even_with_a_session(token: str) -> None:
    caller = api_client.signed_in("admin")
    caller.headers = {"Authorization": f"Bearer {token}"}
    problem(caller.get("users/"), 401, "invalid_key")


def test_secret_is_stored_only_as_a_keyed_hash(settings: Any) -> None:
    key, token = keys.create(name="program", owner=api_client.staff("manager"), scopes=["users:read"])
    secret = token.partition(".")[2]
    assert secret not in str(ApiKey.objects.filter(pk=key.pk).values().get())
    assert keys.verify(token) == key
    old, settings.SECRET_KEY = settings.SECRET_KEY, "another" * 8
    with pytest.raises(keys.KeyRefused):
        keys.verify(token)
    settings.SECRET_KEY_FALLBACKS = [old]
    assert keys.verify(token) == key


def test_last_use_of_a_key_is_written_once_a_minute() -> None:
    program = api_client.program("users:read")
    assert ApiKey.objects.get().last_used_at is None
    program.get("users/")
    first = ApiKey.objects.get().last_used_at
    assert first is not None
    program.get("users/")
    assert ApiKey.objects.get().last_used_at == first
    ApiKey.objects.update(last_used_at=first - timedelta(minutes=2))
    program.get("users/")
    assert ApiKey.objects.get().last_used_at > first - timedelta(minutes=1)  # type: ignore[operator]


def test_key_with_an_unknown_scope_is_not_created() -> None:
    for scopes in (["users:admin"], []):
        with pytest.raises(ValueError, match="unknown scope"):
            keys.create(name="program", owner=api_client.staff("manager"), scopes=scopes)
