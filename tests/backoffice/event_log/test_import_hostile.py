"""Events that no command could have created are refused before the first write, or shown as unreadable."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse

from backoffice.sections.users import domain as users
from events import commands, errors, projections, store
from events.rebuild import builder as rebuild
from events.types import new_id
from tests import factories
from tests.backoffice import api_client
from tests.own_database import own_database

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def database(transactional_db: None, template: str) -> Iterator[None]:
    """Creates a database for this test, because it damages the log."""
    with own_database(template):
        yield


USER = {"email": "ada@example.org", "first_name": "", "last_name": "", "plan": "free", "role": "member"}
FILED: dict[str, Any] = {
    "stream": "user-5d1d8f6e-8e0e-4b61-a1a5-0f6c9f1c0a11",
    "command": {
        "id": "0b0c6f6e-6f0a-4c0d-8a55-5f0e6c1fd2a7",
        "type": "user.update",
        "key": "5d1d8f6e-8e0e-4b61-a1a5-0f6c9f1c0a11",
        "data": {},
    },
    "base_version": 1,
    "version": 1,
    "base": {},
    "theirs": {},
    "mine": {},
    "fields": ["email"],
    "conflicts": [{"path": "email", "base": 1, "theirs": 2, "mine": 3}],
    "author": "staff:1",
    "fingerprint": "f",
    "filed_at": "2026-01-01T00:00:00Z",
}
# Times that JSON and PostgreSQL support but Python does not, in UTC or in another time zone.
TIMES = ("9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", "9999-06-01T00:00:00Z", "0001-06-01T00:00:00Z")
MALFORMED = (
    {"command": {}},
    {"command": {**FILED["command"], "type": 5}},
    {"command": {**FILED["command"], "data": []}},
    {"command": {**FILED["command"], "reason": {"a": 1}}},
    {"conflicts": [{}]},
    {"conflicts": [{"path": 5}]},
    {"command": {**FILED["command"], "id": "1"}},
    {"stream": "nothing"},
    {"source": {"client_id": {"a": 1}}},
)


def imported(tmp_path: Path, stream: str, kind: str, data: dict[str, Any]) -> str:
    line = {"stream": stream, "version": 1, "event": kind, "schema_version": 1, "data": data}
    file = tmp_path / "events.jsonl"
    file.write_text(json.dumps(line | {"event_id": str(new_id())}) + "\n")
    out = StringIO()
    call_command("import_events", str(file), "--json", stdout=out)
    return out.getvalue()


@pytest.mark.parametrize("time", TIMES)
def test_time_outside_pythons_range_is_refused(tmp_path: Path, time: str) -> None:
    stream = f"user-{uuid.uuid4()}"
    with pytest.raises(CommandError, match=r"line 1: .*year"):
        imported(tmp_path, stream, "user.created", USER | {"created_at": time})
    assert store.version_of(stream) == 0


@pytest.mark.parametrize("time", TIMES)
def test_stored_time_outside_pythons_range_is_unreadable(time: str) -> None:
    """A rebuild does not write the time into the read table, because lists could not read such a row."""
    key = factories.user()
    data = json.dumps({"last_login": time})
    stream = f"user-{key}"
    store.query(
        store.APPEND_ONE, (stream, stream, None, "user.updated", 1, data, new_id(), "system", None, None, None, "{}")
    )
    assert store.read_stream(stream)[1].unreadable == "does_not_fit"
    with pytest.raises(errors.UnreadableEvent):
        commands.dispatch(factories.command(users.UpdateUser(first_name="X"), key))
    assert rebuild.rebuild("users", fresh=True).unreadable == 1
    caller = api_client.signed_in("admin")
    for name, args in (("changelist", []), ("change", [key]), ("history", [key])):
        assert caller.client.get(reverse(f"admin:backoffice_user_{name}", args=args)).status_code == 200
    assert caller.get("users/").status_code == 200


@pytest.mark.parametrize("time", TIMES)
def test_store_refuses_a_time_outside_pythons_range(time: str) -> None:
    moment = datetime.fromisoformat(time)
    with pytest.raises(errors.InvalidEvent, match="year"):
        store.append(f"user-{new_id()}", [users.UserUpdated(last_login=moment, first_name="a")])
    with pytest.raises(errors.InvalidEvent, match="year"):
        store.append(f"user-{new_id()}", [users.UserErased(erased_at=moment, deleted_at=moment)])


@pytest.mark.parametrize("changes", MALFORMED, ids=str)
def test_malformed_conflict_is_refused_and_unreadable(tmp_path: Path, changes: dict[str, Any]) -> None:
    key = uuid.uuid4()
    with pytest.raises(CommandError, match="line 1: "):
        imported(tmp_path, f"conflict-{key}", "conflict.filed", FILED | changes)
    stream, data = f"conflict-{key}", json.dumps(FILED | changes)
    store.query(
        store.APPEND_ONE, (stream, stream, None, "conflict.filed", 1, data, new_id(), "system", None, None, None, "{}")
    )
    assert store.read_stream(stream)[0].unreadable == "does_not_fit"
    for role in ("admin", "viewer"):
        assert api_client.signed_in(role).get(f"streams/{stream}/").status_code in (200, 403)
    assert api_client.signed_in("admin").get("events/?limit=10").status_code == 200


@pytest.mark.parametrize("first", "09af")
def test_conflict_with_any_id_prefix_is_imported(tmp_path: Path, first: str) -> None:
    key = f"{first}{str(uuid.uuid4())[1:]}"
    assert json.loads(imported(tmp_path, f"conflict-{key}", "conflict.filed", FILED))["added"] == 1
    assert api_client.signed_in("admin").get(f"streams/conflict-{key}/").status_code == 200


def test_projection_error_is_reported_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stumble(_: Any) -> None:
        raise KeyError("type")

    monkeypatch.setattr(projections, "project", stumble)
    with pytest.raises(CommandError, match="line 1: KeyError"):
        imported(tmp_path, f"user-{uuid.uuid4()}", "user.created", USER | {"created_at": "2026-01-01T00:00:00Z"})
