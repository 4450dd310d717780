"""Lists and single records: pages, filters, ETags, If-Match, rate limits."""

from __future__ import annotations

import os
import uuid
from datetime import UTC, datetime
from typing import Any

import msgspec
import psycopg
import pytest
import redis
from django.db import connection

from backoffice import listing, section
from backoffice.api import shapes, throttling
from backoffice.models import Form, Staff, User
from events import store
from tests import factories
from tests.backoffice import api_client
from tests.backoffice.api_client import problem
from tests.metrics.counters import counting

pytestmark = pytest.mark.django_db


@pytest.fixture
def manager() -> api_client.Caller:
    return api_client.signed_in("manager")


# -- lists ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def one_of_each() -> None:
    factories.submission(factories.form(factories.user(first_name="Ada")), question="answer")
    api_client.signed_in("admin").command("setting.set", "limits.uploads", {"value": {"mb": 5}})


@pytest.mark.parametrize("role", ["admin", "viewer"])
@pytest.mark.parametrize("name", ["users", "forms", "submissions", "settings"])
def test_responses_have_the_documented_shape(one_of_each: None, role: str, name: str) -> None:
    (kind,) = (kind for kind in section.kinds() if kind.name == name)
    assert kind.shape is not None
    path, item = f"{name}/", kind.shape
    page: Any = shapes.page_of(shapes.item_of(kind), item.__name__)
    if (role, path) == ("viewer", "settings/"):
        role = "dpo"
    caller = api_client.signed_in(role)
    content = caller.get(path).content
    listed = msgspec.json.decode(content, type=page)
    assert len(listed.items) == 1
    key = msgspec.json.decode(content)["items"][0][item.__struct_fields__[0]]
    msgspec.json.decode(caller.get(f"{path}{key}/").content, type=shapes.record_of(kind))


def test_fields_hidden_from_a_role_are_documented_as_optional() -> None:
    for kind in section.kinds():
        assert kind.shape is not None
        optional = {field.name for field in msgspec.structs.fields(kind.shape) if not field.required}
        for names in kind.hidden.values():
            assert names <= optional


def test_users_and_forms_come_with_what_they_have(own_database: None, manager: api_client.Caller) -> None:
    busy, idle = factories.user(), factories.user()
    first, second = factories.form(busy), factories.form(busy)
    for form in (first, first, second):
        factories.submission(form)
    old = {"form_id": str(second), "answers": {}, "created_at": "2020-01-01T00:00:00Z"}
    assert manager.command("submission.receive", uuid.uuid4(), old).status_code == 200
    gone = factories.submission(first)
    manager.command("submission.delete", gone)
    manager.command("form.delete", factories.form(busy))
    counting.follow()
    items = {item["id"]: item for item in manager.get("users/?consistent=1").json()["items"]}
    names = ("form_count", "submission_count", "recent_submissions")
    assert [items[str(busy)][name] for name in names] == [2, 4, 3]
    assert [items[str(idle)][name] for name in names] == [0, 0, 0]
    papers = {item["id"]: item for item in manager.get("forms/?consistent=1").json()["items"]}
    assert (papers[str(second)]["submission_count"], papers[str(first)]["submission_count"]) == (2, 2)
    assert papers[str(second)]["last_submission_at"] is not None
    viewer = api_client.signed_in("viewer")
    seen = viewer.get("forms/").json()["items"]
    assert {one["submission_count"] for one in seen} == {2}
    assert {one["id"]: one["last_submission_at"] for one in seen} == {
        key: one["last_submission_at"] for key, one in papers.items()
    }


def test_page_of_users_takes_a_fixed_number_of_statements(
    manager: api_client.Caller, django_assert_max_num_queries: Any
) -> None:
    for _ in range(12):
        factories.form(factories.user())
    with django_assert_max_num_queries(6):
        assert len(manager.get("users/").json()["items"]) == 12


def test_pages_follow_without_gap_or_repetition(manager: api_client.Caller) -> None:
    made = [str(factories.user()) for _ in range(7)]
    seen: list[str] = []
    info: dict[str, Any] = {"next_cursor": ""}
    while info["next_cursor"] is not None:
        answer = manager.get(f"users/?limit=3&cursor={info['next_cursor']}").json()
        info = answer["page_info"]
        seen += [item["id"] for item in answer["items"]]
        factories.user()  # newer than all of them: changes no later page
    assert seen == list(reversed(made))
    assert (info["has_next_page"], info["has_previous_page"]) == (False, True)
    back = manager.get(f"users/?limit=3&cursor={info['previous_cursor']}").json()
    assert [item["id"] for item in back["items"]] == list(reversed(made))[3:6]
    assert info["total_is_exact"] is True


def test_page_has_25_rows_by_default_and_at_most_100(manager: api_client.Caller) -> None:
    for _ in range(27):
        factories.user()
    assert len(manager.get("users/").json()["items"]) == 25
    assert len(manager.get("users/?limit=100").json()["items"]) == 27
    for limit in ("0", "101", "-1", "x", "", "1.5", "9" * 40, "٣"):
        assert problem(manager.get(f"users/?limit={limit}"), 400, "invalid_parameter")["parameter"] == "limit"


def test_filters_and_search_narrow_a_list(manager: api_client.Caller) -> None:
    ada = factories.user(plan="premium", role="owner", first_name="Ada", last_name="Lovelace")
    factories.user(plan="free", first_name="Alan")
    for query in (
        "plan=premium",
        "role=owner",
        "search=love+ada",
        f"search={ada}",
        "search=LOVELACE",
        "plan=premium&active=false",
    ):
        assert [item["id"] for item in manager.get(f"users/?{query}").json()["items"]] == [str(ada)], query
    for query in ("active=true", "deleted=true", "search=love+alan", "created_before=2020-01-01"):
        assert manager.get(f"users/?{query}").json()["items"] == [], query
    manager.command("user.delete", ada)
    assert len(manager.get("users/").json()["items"]) == 1
    assert [item["id"] for item in manager.get("users/?deleted=true").json()["items"]] == [str(ada)]
    assert len(manager.get("users/?deleted=any").json()["items"]) == 2


def test_forms_and_submissions_are_filtered_by_their_parents(manager: api_client.Caller) -> None:
    form = factories.form(title="Feedback")
    submission = factories.submission(form)
    factories.submission()
    owner = Form.objects.get(pk=form).user_id
    assert [item["id"] for item in manager.get(f"forms/?user={owner}").json()["items"]] == [str(form)]
    assert [item["id"] for item in manager.get("forms/?search=feed&archived=false").json()["items"]] == [str(form)]
    assert [item["id"] for item in manager.get(f"submissions/?form={form}").json()["items"]] == [str(submission)]
    assert [item["id"] for item in manager.get("submissions/?search=feedback").json()["items"]] == [str(submission)]


@pytest.mark.parametrize("path", ["users/", "forms/", "submissions/", "settings/"])
def test_unknown_filter_or_sort_is_refused_with_the_valid_ones(path: str) -> None:
    admin, spec = api_client.signed_in("admin"), listing.SPECS[path.strip("/")]
    found = problem(admin.get(f"{path}?colour=red"), 400, "unknown_parameter")
    assert found["parameter"] == "colour"
    assert set(spec.filters) <= set(found["allowed"])
    found = problem(admin.get(f"{path}?sort=-colour"), 400, "unknown_sort")
    assert found["allowed"] == list(spec.sorts)


@pytest.mark.parametrize(
    "query",
    ["plan=gold", "active=maybe", "deleted=x", "created_after=yesterday", "created_before=2026-02-30", "role="],
)
def test_invalid_filter_value_is_refused_with_the_valid_ones(manager: api_client.Caller, query: str) -> None:
    response = manager.get(f"users/?{query}")
    if query == "role=":  # an empty field of a search form is no filter
        assert response.status_code == 200
    else:
        assert problem(response, 400, "invalid_filter")["parameter"] == query.partition("=")[0]


@pytest.mark.parametrize("sort", ["created_at", "-created_at", "email", "-email", "last_login", "-last_login"])
def test_every_sort_pages_through_all_users(manager: api_client.Caller, sort: str) -> None:
    for number in range(5):
        factories.user(**({"last_login": datetime(2026, 1, number, tzinfo=UTC)} if number % 2 else {}))
    seen, cursor = [], ""
    while cursor is not None:
        answer = manager.get(f"users/?sort={sort}&limit=2&cursor={cursor}").json()
        seen += [item["id"] for item in answer["items"]]
        cursor = answer["page_info"]["next_cursor"]
    assert sorted(seen) == sorted(str(pk) for pk in User.objects.values_list("pk", flat=True))


def test_tampered_cursor_is_refused(manager: api_client.Caller) -> None:
    for _ in range(3):
        factories.user()
        factories.form()
    cursor = manager.get("users/?limit=1").json()["page_info"]["next_cursor"]
    swapped = ("A" if cursor[0] != "A" else "B") + cursor[1:]
    for wrong in (
        "x",
        swapped,
        cursor[:-8],
        f"{cursor[:20]}:{cursor[20:]}",
        cursor[::-1],
        "%00",
        "é",
        "a" * 5000,
    ):
        response = manager.get(f"users/?limit=1&cursor={wrong}")
        problem(response, 400, "nul_character" if wrong == "%00" else "invalid_cursor")
    problem(manager.get(f"forms/?cursor={cursor}"), 400, "invalid_cursor")
    problem(manager.get(f"users/?sort=email&cursor={cursor}"), 400, "invalid_cursor")


@pytest.mark.parametrize(
    "query",
    [
        "search=%00",
        "search=%ED%A0%80",
        "search=%25%25%25",
        "search=" + "a+" * 3000,
        "plan=%00",
        "%00=1",
        "search=\\",
        "search='--",
    ],
)
def test_strange_queries_cause_no_server_error(query: str) -> None:
    caller = api_client.Caller(api_client.staff("manager"), raises=False)
    for path in ("users/", "forms/", "submissions/"):
        assert caller.get(f"{path}?{query}").status_code in {200, 400}


def test_search_takes_wildcards_literally(manager: api_client.Caller) -> None:
    factories.user(first_name="100%")
    factories.user(first_name="Ada")
    assert len(manager.get("users/?search=100%25").json()["items"]) == 1
    for word in ("%25", "%25%25%25", "_da", "___"):
        assert manager.get(f"users/?search={word}").json()["items"] == []


# -- one record -----------------------------------------------------------------------------------------------------


def test_record_has_its_version_as_etag(manager: api_client.Caller) -> None:
    key = factories.user()
    response = manager.get(f"users/{key}/")
    assert response.headers["ETag"] == '"v1"'
    assert response.json()["version"] == 1
    assert "private" in response.headers["Cache-Control"]
    assert {"Authorization", "Cookie"} <= {name.strip() for name in response.headers["Vary"].split(",")}


def test_matching_etag_returns_304(manager: api_client.Caller) -> None:
    key = factories.submission()
    for held in ('"v1"', 'W/"v1"', '"v0", "v1"', "*"):
        response = manager.get(f"submissions/{key}/", If_None_Match=held)
        assert (response.status_code, response.content) == (304, b"")
        assert response.headers["ETag"] == '"v1"'
    manager.command("submission.delete", key)
    for held in ('"v1"', '"v11"', '"v3"', "nonsense"):
        assert manager.get(f"submissions/{key}/", If_None_Match=held).json()["deleted_at"] is not None


@pytest.mark.parametrize("name", ["users", "forms"])
def test_record_with_counts_is_sent_although_its_version_is_known(manager: api_client.Caller, name: str) -> None:
    """Counts change without the version."""
    key = factories.user() if name == "users" else factories.form()
    response = manager.get(f"{name}/{key}/", If_None_Match='"v1"')
    assert (response.status_code, response.headers["ETag"]) == (200, '"v1"')
    assert response.json()["submission_count"] == 0


@pytest.mark.parametrize("key", ["x", "018f0000-0000-7000-8000-000000000000", "%00", "0", "é", "a" * 3000])
def test_missing_record_returns_404(key: str) -> None:
    caller = api_client.Caller(api_client.staff("admin"), raises=False)
    for path in ("users/", "forms/", "submissions/", "settings/"):
        problem(caller.get(f"{path}{key}/"), 404, "not_found")
        problem(caller.delete(f"{path}{key}/", If_Match="*"), 404, "not_found")


def test_change_requires_if_match(manager: api_client.Caller) -> None:
    key = factories.user()
    problem(manager.patch(f"users/{key}/", {"first_name": "Ada"}), 428, "precondition_required")
    problem(manager.delete(f"users/{key}/"), 428, "precondition_required")
    assert store.version_of(f"user-{key}") == 1


def test_change_of_the_current_version_is_applied(manager: api_client.Caller) -> None:
    key = factories.user()
    response = manager.patch(f"users/{key}/", {"first_name": "Ada"}, If_Match='"v1"')
    assert (response.status_code, response.json()["status"], response.headers["ETag"]) == (200, "applied", '"v2"')
    response = manager.delete(f"users/{key}/", If_Match='"v2"')
    assert (response.status_code, response.headers["ETag"]) == (200, '"v3"')
    assert manager.get(f"users/{key}/").json()["deleted_at"] is not None


def test_change_of_an_older_version_is_merged(manager: api_client.Caller) -> None:
    key = factories.user(first_name="Ada", last_name="Byron")
    factories.update(key, last_name="Lovelace")
    response = manager.patch(f"users/{key}/", {"first_name": "Augusta"}, If_Match='"v1"')
    assert (response.json()["status"], response.headers["ETag"]) == ("merged", '"v3"')


def test_conflicting_stale_change_returns_412_with_the_current_etag(manager: api_client.Caller) -> None:
    key = factories.user(first_name="Ada")
    factories.update(key, first_name="Augusta")
    for response in (
        manager.patch(f"users/{key}/", {"first_name": "Adele"}, If_Match='"v1"'),
        manager.delete(f"users/{key}/", If_Match='"v1"'),
    ):
        found = problem(response, 412, "precondition_failed")
        assert response.headers["ETag"] == '"v2"'
        assert found["fields"] == ["first_name"]
        assert (found["base"]["first_name"], found["theirs"]["first_name"]) == ("Ada", "Augusta")
    assert User.objects.get(pk=key).first_name == "Augusta"


@pytest.mark.parametrize(
    "held", ['"v2"', '"v0"', '"v999999999999999999"', '"v1", "v2"', "v1", '"x"', '"v1" ;', '"v-1"']
)
def test_unknown_etag_does_not_match(manager: api_client.Caller, held: str) -> None:
    key = factories.user()
    response = manager.patch(f"users/{key}/", {"first_name": "Ada"}, If_Match=held)
    problem(response, 412, "precondition_failed")
    assert response.headers["ETag"] == '"v1"'


def test_star_matches_any_version(manager: api_client.Caller) -> None:
    key = factories.user()
    factories.update(key, first_name="Ada")
    assert manager.patch(f"users/{key}/", {"first_name": "Augusta"}, If_Match="*").json()["version"] == 3
    problem(manager.patch(f"users/{uuid.uuid4()}/", {"first_name": "Ada"}, If_Match="*"), 404, "not_found")


def test_repeated_change_with_an_idempotency_key_is_applied_once(manager: api_client.Caller) -> None:
    key, sent = factories.user(), str(uuid.uuid4())
    headers = {"If_Match": '"v1"', "Idempotency_Key": sent}
    answers = [manager.patch(f"users/{key}/", {"first_name": "Ada"}, **headers).json() for _ in range(2)]
    assert [answer["status"] for answer in answers] == ["applied", "duplicate"]
    response = manager.patch(f"users/{key}/", {"first_name": "Grace"}, **headers)
    problem(response, 422, "idempotency_key_reused")
    response = manager.patch(f"users/{key}/", {"first_name": "Ada"}, If_Match='"v2"', Idempotency_Key="7")
    problem(response, 400, "invalid_header")


def test_change_is_validated_like_a_command(manager: api_client.Caller) -> None:
    key = factories.user()
    found = problem(manager.patch(f"users/{key}/", {"plan": "gold", "x": 1}, If_Match='"v1"'), 422, "invalid")
    assert found["errors"].keys() == {"plan", "x"}
    problem(manager.patch(f"users/{key}/", [], If_Match='"v1"'), 400, "malformed")
    problem(manager.patch(f"submissions/{factories.submission()}/", {}, If_Match='"v1"'), 405, "method_not_allowed")


def test_forms_settings_and_submissions_change_the_same_way() -> None:
    admin, form, submission = api_client.signed_in("admin"), factories.form(), factories.submission()
    key = f"limits.{uuid.uuid4().hex[:8]}"
    admin.command("setting.set", key, {"value": 1})
    field = {"id": "q1", "type": "text", "label": "Why?", "unknown": {"kept": True}}
    assert admin.patch(f"forms/{form}/", {"fields": [field]}, If_Match='"v1"').status_code == 200
    assert admin.get(f"forms/{form}/").json()["fields"] == [field]
    assert admin.patch(f"settings/{key}/", {"value": 2}, If_Match='"v1"').status_code == 200
    assert admin.get(f"settings/{key}/").json()["value"] == 2
    assert admin.delete(f"settings/{key}/", If_Match='"v2"').status_code == 200
    problem(admin.get(f"settings/{key}/"), 404, "not_found")
    assert admin.delete(f"submissions/{submission}/", If_Match='"v1"').status_code == 200


def test_resources_show_only_columns_of_their_tables() -> None:
    for kind in section.kinds():
        known = {field.attname for field in kind.model._meta.concrete_fields}
        assert kind.shape is not None
        assert set(kind.shape.__struct_fields__) == known - {"mailbox"}  # the normal form of addresses is internal


# -- rate limits ------------------------------------------------------------------------------------------------------


def test_call_above_the_limit_returns_429_with_retry_after(settings: Any) -> None:
    settings.API_RATE_PER_MINUTE = 3
    often, other = api_client.program("users:read"), api_client.program("users:read")
    assert [often.get("users/").status_code for _ in range(3)] == [200, 200, 200]
    response = often.get("users/")
    problem(response, 429, "rate_limited")
    assert 1 <= int(response.headers["Retry-After"]) <= 20
    assert other.get("users/").status_code == 200


def test_each_command_of_a_queue_counts(settings: Any) -> None:
    settings.API_COMMANDS_PER_MINUTE = 5
    key = factories.user()

    def queue(*numbers: int) -> dict[str, Any]:
        each = {"type": "user.update", "key": str(key), "data": {"first_name": "A"}, "base_version": 1}
        return {"client_id": "x", "mutations": [{"seq": n, "id": str(uuid.uuid4()), **each} for n in numbers]}

    often, other = api_client.program("users:write"), api_client.program("users:write")
    problem(often.post("sync/", queue(*range(6))), 413, "too_large")
    assert often.post("sync/", queue(1, 2, 3)).status_code == 200
    refused = often.post("sync/", queue(1, 2, 3))
    problem(refused, 429, "rate_limited")
    assert 1 <= int(refused.headers["Retry-After"]) <= 12
    assert often.post("sync/", queue(1, 2)).status_code == 200, "a refused queue takes nothing"
    assert other.post("sync/", queue(1, 2, 3)).status_code == 200


def test_each_event_of_a_batch_counts(settings: Any) -> None:
    settings.API_COMMANDS_PER_MINUTE = 5
    often = api_client.program("ingest:write")
    batch = [{"specversion": "1.0", "id": str(n), "source": "test"} for n in range(4)]
    kind = "application/cloudevents-batch+json"
    problem(often.post("ingest/", batch * 2, content_type=kind), 413, "too_large")
    assert often.post("ingest/", batch, content_type=kind).status_code == 200
    refused = often.post("ingest/", batch, content_type=kind)
    problem(refused, 429, "rate_limited")
    assert 1 <= int(refused.headers["Retry-After"]) <= 36


def test_limit_of_zero_disables_the_limit(settings: Any) -> None:
    settings.API_RATE_PER_MINUTE = 0
    caller = api_client.signed_in("viewer")
    assert {caller.get("users/").status_code for _ in range(5)} == {200}


def test_no_limit_applies_without_valkey(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.API_RATE_PER_MINUTE = 1
    away = redis.Redis(host="127.0.0.1", port=1, socket_connect_timeout=0.2, retry=None)
    monkeypatch.setattr(throttling, "_local", type("Local", (), {"script": away.register_script(throttling.TAKE)})())
    monkeypatch.setattr(throttling, "_silent_until", 0.0)
    caller = api_client.signed_in("viewer")
    assert {caller.get("users/").status_code for _ in range(3)} == {200}
    assert throttling._silent_until > 0


def test_people_and_keys_are_counted_separately() -> None:
    assert Staff.objects.count() == 0
    person = api_client.signed_in("manager").person
    assert throttling.principal(type("R", (), {"auth": None, "user": person})()) == f"staff:{person.pk}"  # type: ignore[arg-type, union-attr]


# -- without a database ---------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_lost_database_returns_503_and_the_next_call_succeeds() -> None:
    program = api_client.program("users:read")
    program.client.raise_request_exception = False
    [[pid]] = store.query("select pg_backend_pid()")
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as other:
        other.execute("select pg_terminate_backend(%s, 5000)", [pid])
    response = program.get("users/")
    problem(response, 503, "store_unavailable")
    assert response.headers["Retry-After"] == "5"
    connection.close()
    assert program.get("users/").status_code == 200
