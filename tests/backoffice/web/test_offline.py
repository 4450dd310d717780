"""The server side of offline use: service worker, manifest, ownership of pages, saves by script."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import uuid
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from events import store
from realtime import auth
from tests import factories
from tests.backoffice import api_client

pytestmark = pytest.mark.django_db


def change(key: Any, category: str = "user") -> str:
    return reverse(f"admin:backoffice_{category}_change", args=[key])


def told(script: str) -> dict[str, Any]:
    found = re.match(r"self\.formease = (\{.*\});\n", script)
    assert found
    manifest: dict[str, Any] = json.loads(found[1])
    return manifest


# -- the worker -----------------------------------------------------------------------------------------------------


def test_worker_is_public_with_its_own_policy() -> None:
    response = Client().get("/admin/worker.js")
    assert response.status_code == 200
    assert response["Content-Type"].startswith("text/javascript")
    assert response["Cache-Control"] == "no-cache"
    assert response["Content-Security-Policy"] == "default-src 'none'; script-src 'self'; connect-src 'self'"


def test_manifest_has_the_hash_of_every_part() -> None:
    client = Client()
    manifest = told(client.get("/admin/worker.js").content.decode())
    needed = ("backoffice/page.js", "backoffice/offline/saver.js", "realtime/connection.js", "admin/css/base.css")
    assert {f"/static/{name}" for name in needed} <= set(manifest["parts"])
    assert not any("worker" in address for address in manifest["parts"])
    page = api_client.signed_in("manager").client.get(change(factories.user())).content.decode()
    assert set(re.findall(r'(?:src|href)="(/static/[^"#]+)[#"]', page)) <= set(manifest["parts"])
    content = client.get("/static/backoffice/page.js").content
    expected = "sha256-" + base64.b64encode(hashlib.sha256(content).digest()).decode()
    assert manifest["parts"]["/static/backoffice/page.js"] == expected


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("/admin/backoffice/user/x/change/", True),
        ("/admin/backoffice/setting/a.b/change/", True),
        ("/admin/backoffice/submission/x/change/", False),
        ("/admin/backoffice/staff/1/change/", False),
        ("/admin/backoffice/user/x/history/", False),
        ("/admin/backoffice/user/", False),
        ("/other/admin/backoffice/user/x/change/", False),
    ],
)
def test_only_pages_of_listed_records_may_be_cached(path: str, kept: bool) -> None:
    pattern = told(Client().get("/admin/worker.js").content.decode())["records"]
    assert bool(re.search(pattern, path)) is kept


def test_disabled_worker_unregisters_itself_and_pages_register_none(settings: Any) -> None:
    settings.OFFLINE = False
    assert "unregister" in Client().get("/admin/worker.js").content.decode()
    page = api_client.signed_in("manager").client.get(change(factories.user())).content.decode()
    assert "data-worker" not in page
    assert "data-command" not in page
    assert "data-sync-url" in page, "what waits is still sent"


def test_every_response_is_marked_as_one_of_the_application() -> None:
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    statuses = {
        client.get("/admin/worker.js"): 200,
        client.get("/static/backoffice/page.js"): 200,
        client.get("/admin/"): 302,
        client.get("/nowhere/"): 404,
        client.post("/admin/login/"): 403,
        client.get("/api/v1/users/"): 401,
    }
    for response, status in statuses.items():
        assert (response.status_code, response["X-FormEase"]) == (status, "1")


# -- ownership --------------------------------------------------------------------------------------------------------


def test_pages_name_their_owner_and_only_records_may_be_cached() -> None:
    caller = api_client.signed_in("manager")
    person = str(caller.person.pk)  # type: ignore[union-attr]
    record = caller.client.get(change(factories.user()))
    release = told(caller.client.get("/admin/worker.js").content.decode())["version"]
    assert (record["X-Person"], record["X-Keep"]) == (person, release)
    for address in ("/admin/", "/admin/backoffice/user/", change(factories.submission(), "submission")):
        response = caller.client.get(address)
        assert response["X-Person"] == person
        assert "X-Keep" not in response
    refused = caller.client.post(change(factories.user()), {"email": "no"})
    assert refused.status_code == 422
    assert "X-Keep" not in refused
    signed_out = Client().get(change(factories.user()))
    assert signed_out.status_code == 302
    assert not {"X-Person", "X-Keep"} & set(signed_out.headers)


def test_cached_fallback_page_contains_no_person() -> None:
    caller = api_client.signed_in("manager", first_name="Grace", last_name="Lindqvist")
    mine = caller.client.get("/admin/offline/")
    shell = caller.client.get("/admin/offline/?shell=1")
    assert "Grace" in mine.content.decode()
    assert mine["X-Person"]
    for name in ("Grace", "Lindqvist", 'data-person="', "csrfmiddlewaretoken"):
        assert name not in shell.content.decode()
    assert "X-Person" not in shell
    assert Client().get("/admin/offline/").status_code == 200


def test_person_endpoint_names_the_signed_in_person_or_null() -> None:
    caller = api_client.signed_in("agent")
    response = caller.client.get("/admin/offline/person/")
    session = auth.session_digest(str(caller.client.session.session_key))
    assert response.json() == {"person": caller.person.pk, "session": session}  # type: ignore[union-attr]
    assert "csrftoken" in response.cookies
    assert response["Cache-Control"] == "no-store"
    assert Client().get("/admin/offline/person/").json() == {"person": None, "session": None}
    gone = api_client.signed_in("agent", is_active=False)
    assert gone.client.get("/admin/offline/person/").json() == {"person": None, "session": None}


def test_queue_is_accepted_only_from_its_author() -> None:
    key, thief = factories.user(), api_client.signed_in("manager")
    owner = api_client.signed_in("manager")
    command = {"seq": 1, "id": str(uuid.uuid4()), "type": "user.update", "key": str(key), "data": {"first_name": "A"}}
    body = {"client_id": "laptop", "person": owner.person.pk, "mutations": [command]}  # type: ignore[union-attr]
    api_client.problem(thief.post("sync/", body), 403, "other_person")
    assert store.version_of(f"user-{key}") == 1
    assert owner.post("sync/", body).json()["results"][0]["status"] == "applied"


def test_save_by_the_page_of_another_person_is_refused() -> None:
    key, caller = factories.user(), api_client.signed_in("manager")
    fields = {"first_name": "A", "email": "a@example.org", "plan": "free", "role": "member", "reason": "r"}
    headers = {"X-Requested-With": "fetch", "X-Person": "999999"}
    other = caller.client.post(change(key), {**fields, "base_version": 1}, headers=headers)
    assert (other.status_code, other.json()) == (409, {"code": "other_person"})
    assert store.version_of(f"user-{key}") == 1


def test_save_by_script_returns_the_next_url() -> None:
    key, caller = factories.user(first_name="Base"), api_client.signed_in("manager")
    person = str(caller.person.pk)  # type: ignore[union-attr]
    headers = {"X-Requested-With": "fetch", "X-Person": person}
    page = caller.client.get(change(key)).context["form"]
    fields = {name: page[name].value() for name in ("email", "plan", "role", "last_name")}

    def save(name: str) -> Any:
        data = {**fields, "first_name": name, "base_version": 1, "command_id": uuid.uuid4()}
        return caller.client.post(change(key), data, headers=headers)

    saved = save("Mine").json()
    assert (saved["location"], saved["version"], saved["values"]["first_name"]) == (change(key), 2, "Mine")
    assert save("Too late").json()["location"].startswith("/admin/backoffice/conflict/")


def test_page_after_sign_out_names_the_person_who_left() -> None:
    caller = api_client.signed_in("agent")
    response = caller.client.post("/admin/logout/")
    assert f'data-signed-out-person="{caller.person.pk}"' in response.content.decode()  # type: ignore[union-attr]
    assert "X-Person" not in response
