"""Notes with an extension; `tests/test_new_kind.py` runs this in its copy of the project."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from backoffice.api import openapi
from events.types import new_id
from tests.backoffice import api_client

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin() -> api_client.Caller:
    return api_client.signed_in("admin")


@pytest.fixture
def viewer() -> api_client.Caller:
    return api_client.signed_in("viewer")


def written(caller: api_client.Caller, title: str = "Call back", text: str = "on Monday") -> str:
    key = str(new_id())
    assert caller.command("note.create", key, {"title": title, "text": text}).status_code == 200
    return key


def page(caller: api_client.Caller, view: str, *args: object, **query: str) -> str:
    response = caller.client.get(reverse(f"admin:backoffice_note_{view}", args=args), query)
    assert response.status_code == 200
    return str(response.content.decode())


def test_the_list_shows_the_columns_after_its_own(admin: api_client.Caller) -> None:
    written(admin)
    listed = page(admin, "changelist")
    assert listed.index(">Created") < listed.index(">Length")
    assert re.search(r'<td data-added class="number "\s*>1,009</td>', listed)
    assert re.search(r'<td data-added class="wide"\s*><span class="quiet">–</span></td>', listed)


def test_rows_that_are_refreshed_have_the_columns(admin: api_client.Caller) -> None:
    key = written(admin)
    assert re.search(r'<td data-added class="number "\s*>1,009</td>', page(admin, "rows", ids=key))


def test_the_values_of_a_page_are_loaded_at_once(admin: api_client.Caller) -> None:
    def statements() -> int:
        with CaptureQueriesContext(connection) as captured:
            page(admin, "changelist")
        return len(captured)

    written(admin)
    page(admin, "changelist")
    one = statements()
    for _ in range(5):
        written(admin)
    assert statements() == one


def test_lists_are_sorted_by_the_added_sort(admin: api_client.Caller) -> None:
    for title in ("b", "c", "a"):
        written(admin, title)
    items = admin.get("notes/?sort=-length").json()["items"]
    assert [item["title"] for item in items] == ["c", "b", "a"]
    listed = page(admin, "changelist", sort="length")
    assert 'aria-sort="ascending"' in listed
    assert "sort=-length" in listed


def test_the_api_has_the_field_in_lists_and_in_the_record(admin: api_client.Caller) -> None:
    key = written(admin)
    assert admin.get("notes/").json()["items"][0]["length"] == 1009
    read = admin.get(f"notes/{key}/")
    assert read.json()["length"] == 1009
    assert admin.get(f"notes/{key}/", If_None_Match=read.headers["ETag"]).status_code == 200


def test_the_description_has_the_field_and_the_sort(admin: api_client.Caller) -> None:
    assert "length" in openapi._schemas()["Note"]["properties"]
    assert "title" in openapi._schemas()["Note"]["properties"]
    described: Any = admin.get("/api/schema/?format=json").json()
    parameters = {each["name"]: each for each in described["paths"]["/api/v1/notes/"]["get"]["parameters"]}
    assert {"length", "-length"} <= set(parameters["sort"]["schema"]["enum"])


def test_the_record_page_has_the_panel(admin: api_client.Caller) -> None:
    key = written(admin)
    assert "9 characters" in page(admin, "change", key)


def test_a_role_from_which_a_field_is_hidden_gets_nothing_of_it(
    admin: api_client.Caller, viewer: api_client.Caller
) -> None:
    key = written(admin)
    for shown in (page(viewer, "changelist"), page(viewer, "rows", ids=key)):
        assert "1,009" not in shown
        assert "Length" not in shown
        assert "–" in shown, "the other column stays"
    assert "characters" not in page(viewer, "change", key)
    assert "length" not in viewer.get("notes/").json()["items"][0]
    assert "length" not in viewer.get(f"notes/{key}/").json()
    api_client.problem(viewer.get("notes/?sort=length"), 400, "unknown_sort")


def test_a_record_without_visible_added_fields_is_not_sent_again(
    admin: api_client.Caller, viewer: api_client.Caller
) -> None:
    key = written(admin)
    assert viewer.get(f"notes/{key}/", If_None_Match='"v1"').status_code == 304


def test_the_header_of_every_page_has_the_item(admin: api_client.Caller, viewer: api_client.Caller) -> None:
    address = reverse("admin:backoffice_note_changelist")
    assert f"<span data-length-header>{address}</span>" in page(admin, "changelist")
    assert "data-length-header" not in page(viewer, "changelist")
