"""The journey of a change: form, command, one transaction, read table, history, log."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests import live
from tests.flows.people import Person

pytestmark = pytest.mark.services


def test_saved_form_becomes_one_event_that_every_reader_sees(
    stack: live.Stack, person: Callable[[str], Person]
) -> None:
    manager, agent = person("manager"), person("agent")
    key = manager.create("user", first_name="Ada", last_name="Byron")
    page = f"/admin/backoffice/user/{key}/change/"

    # 1. The page carries the id of the command and the version it was rendered at.
    form = agent.form(page)
    assert (form["first_name"], form["base_version"]) == ("Ada", "1")

    # 2. Saving dispatches one command: lock, decide, project, append in one transaction.
    changed = form | {"first_name": "Augusta", "reason": "As she signs"}
    assert agent.submit(page, changed).status == 302

    # 3. The read table changed in that transaction.
    record = agent.send("GET", f"users/{key}/")
    assert (record.json()["first_name"], record.headers["ETag"]) == ("Augusta", '"v2"')
    assert 'value="Augusta"' in agent.page(page)

    # 4. The event says who changed which field, and why.
    created, updated = agent.events(f"user-{key}")
    assert [created["event"], updated["event"]] == ["user.created", "user.updated"]
    assert updated["data"] == {"first_name": "Augusta"}
    assert (updated["version"], updated["reason"]) == (2, "As she signs")
    assert [created["actor"], updated["actor"]] == [f"staff:{stack.staff[role].pk}" for role in ("manager", "agent")]
    assert "As she signs" in agent.page(f"/admin/backoffice/user/{key}/history/")

    # 5. The safe head of the log has reached the event.
    log = person("admin").get(f"events/?after={updated['position'] - 1}&limit=1")
    assert log["items"] == [updated]
    assert log["head"] >= updated["position"]

    # 6. The same form sent again, as by a double click, changes nothing.
    assert agent.submit(page, changed).status == 302
    assert stack.query("select version from users where id = %s", key) == [(2,)]

    # 7. Earlier states can still be read.
    assert agent.get(f"streams/user-{key}/state/?version=1")["state"]["first_name"] == "Ada"


def test_command_sent_twice_is_answered_twice_and_applied_once(person: Callable[[str], Person]) -> None:
    manager = person("manager")
    key = manager.create("user")
    body = {"id": "0198c0de-0000-7000-8000-" + key[-12:], "type": "user.update", "key": key, "data": {"last_name": "B"}}
    first, second = (manager.post("commands/", body).json() for _ in range(2))
    assert (first["status"], second["status"]) == ("applied", "duplicate")
    assert (first["version"], first["position"]) == (second["version"], second["position"])
    assert len(manager.events(f"user-{key}")) == 2
