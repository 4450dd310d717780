"""Notes in use; `tests/test_new_kind.py` runs this in its copy of the project."""

from __future__ import annotations

import re
import uuid
from pathlib import Path
from typing import Any

import orjson
import pytest
from django.core.management import call_command
from django.urls import reverse

from backoffice import listing
from events.types import new_id
from realtime import frames
from tests.backoffice import api_client
from tests.realtime import harness
from tests.realtime.harness import run_scenario

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin() -> api_client.Caller:
    return api_client.signed_in("admin")


def written(caller: api_client.Caller, title: str = "Call back") -> str:
    key = str(new_id())
    assert caller.command("note.create", key, {"title": title, "text": "on Monday"}).status_code == 200
    return key


def url(view: str, *args: object) -> str:
    return reverse(f"admin:backoffice_note_{view}", args=args)


def test_notes_have_pages(admin: api_client.Caller) -> None:
    browser = admin.client
    assert browser.get(url("add")).status_code == 200
    form = {"title": "Call back", "text": "on Monday", "pinned": "on", "command_id": str(uuid.uuid4())}
    added = browser.post(url("add"), form)
    assert added.status_code == 302, added.content
    key = added["Location"].split("/")[-3]
    listed = browser.get(url("changelist"))
    assert "Call back" in listed.content.decode()
    assert "on Monday" in listed.content.decode()
    assert re.search(r"<td[^>]*>\s*yes\s*</td>", listed.content.decode()), "a truth value is shown as a word"
    assert url("changelist") in browser.get("/admin/").content.decode(), "the navigation has an entry"
    assert browser.get(url("rows"), {"ids": key}).status_code == 200
    page = browser.get(url("change", key))
    assert page.status_code == 200
    changed = form | {"title": "Call again", "base_version": "1", "command_id": str(uuid.uuid4())}
    assert browser.post(url("change", key), changed).status_code == 302
    assert "Call again" in browser.get(url("change", key)).content.decode()
    assert listing.SPECS["notes"].model.objects.get(pk=key).version == 2
    assert "Call again" in browser.get("/admin/search/", {"q": "again"}).content.decode()


def test_notes_have_a_history(admin: api_client.Caller) -> None:
    key, browser = written(admin), admin.client
    admin.command("note.update", key, {"title": "Call again"})
    history = browser.get(url("history", key)).content.decode()
    assert "Call again" in history
    assert browser.get(url("version", key, 1)).status_code == 200
    assert browser.get(url("compare", key)).status_code == 200
    assert browser.get(url("rollback", key, 1)).status_code == 200
    form = {"base_version": "2", "command_id": str(uuid.uuid4())}
    assert browser.post(url("rollback", key, 1), form).status_code == 302
    assert admin.get(f"notes/{key}/").json()["title"] == "Call back"
    assert admin.get(f"streams/note-{key}/state/?version=2").json()["state"]["title"] == "Call again"


def test_notes_have_an_api(admin: api_client.Caller) -> None:
    key = written(admin)
    read = admin.get(f"notes/{key}/")
    assert read.headers["ETag"] == '"v1"'
    assert admin.get("notes/").json()["items"] == [read.json()]
    assert admin.patch(f"notes/{key}/", {"text": "on Tuesday"}, If_Match='"v1"').status_code == 200
    assert admin.delete(f"notes/{key}/", If_Match='"v2"').status_code == 200
    assert admin.get("notes/").json()["items"] == []
    assert admin.command("note.restore", key, {}).status_code == 200
    assert admin.get("notes/?pinned=false&search=call").json()["items"][0]["deleted_at"] is None
    assert "/api/v1/notes/{key}/" in admin.get("/api/schema/").content.decode()
    assert "text" not in api_client.signed_in("viewer").get(f"notes/{key}/").json(), "hidden from this role"
    api_client.problem(api_client.signed_in("dpo").get("notes/"), 403, "forbidden")
    assert api_client.program("notes:read", role="agent").get("notes/").status_code == 200


def test_conflicts_about_notes_are_resolved_in_the_inbox(admin: api_client.Caller) -> None:
    key = written(admin)
    assert admin.command("note.update", key, {"title": "Theirs"}, base_version=1).status_code == 200
    refused = api_client.problem(admin.command("note.update", key, {"title": "Mine"}, base_version=1), 409, "conflict")
    conflict = refused["conflict_id"]
    assert admin.client.get(reverse("admin:backoffice_conflict_change", args=[conflict])).status_code == 200
    assert "Theirs" in admin.client.get(reverse("admin:backoffice_conflict_changelist")).content.decode()
    resolved = admin.post(f"conflicts/{conflict}/resolve/", {"choices": {"title": "mine"}})
    assert resolved.status_code == 200, resolved.content
    assert admin.get(f"notes/{key}/").json()["title"] == "Mine"
    merged = admin.command("note.update", key, {"text": "on Friday"}, base_version=2)
    assert merged.json()["status"] == "merged"


def test_events_of_notes_reach_the_socket(
    server: harness.Server, relay: harness.Relay, writer: harness.Writer, session: str, admin: api_client.Caller
) -> None:
    async def scene() -> Any:
        async with server.client(session) as live:
            await live.follow("notes")
            items = aiter(live)
            await harness.next_of(items, frames.Subscribed)
            await writer.do(written, admin)
            return await harness.next_of(items, frames.EventFrame)

    frame = run_scenario(scene())
    assert frame.event == "note.created"
    assert frame.data["title"] == "Call back"


@pytest.mark.django_db(transaction=True)
def test_notes_are_exported(admin: api_client.Caller, tmp_path: Path) -> None:
    key = written(admin)
    call_command("export_events", str(tmp_path / "events.jsonl"))
    exported = [orjson.loads(line) for line in (tmp_path / "events.jsonl").read_bytes().splitlines()]
    assert f"note-{key}" in {event.get("stream") for event in exported}
