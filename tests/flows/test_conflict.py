"""The journey of a conflict: two edits of one version, merge or inbox, decision, history."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest

from tests.flows.people import Person

pytestmark = pytest.mark.services


def test_second_edit_of_a_version_is_merged_or_filed_as_a_conflict(person: Callable[[str], Person]) -> None:
    manager, agent = person("manager"), person("agent")
    key = manager.create("user", first_name="Ada", last_name="Byron")

    # 1. Both opened version 1. The manager saves first.
    saved = manager.command("user.update", key, {"last_name": "King"}, base_version=1).json()
    assert (saved["status"], saved["version"]) == ("applied", 2)

    # 2. The agent changed another field: both changes are kept.
    merged = agent.command("user.update", key, {"first_name": "Augusta"}, base_version=1).json()
    assert (merged["status"], merged["version"]) == ("merged", 3)

    # 3. The agent changed the same field: nothing is applied, the change is filed in the inbox.
    edit = {
        "id": str(uuid.uuid4()),
        "type": "user.update",
        "key": key,
        "data": {"last_name": "Lovelace"},
        "base_version": 1,
    }
    refused = agent.post("commands/", edit)
    assert (refused.status, refused.json()["code"]) == (409, "conflict")
    conflict = refused.json()["conflict_id"]
    assert agent.get(f"users/{key}/")["last_name"] == "King"

    # 4. Sending the edit again is answered with the same conflict.
    assert agent.post("commands/", edit).json()["conflict_id"] == conflict

    # 5. The inbox shows base, theirs and mine. The manager assigns the conflict to themselves and comments.
    shown = manager.get(f"conflicts/{conflict}/")
    assert [shown[side]["last_name"] for side in ("base", "theirs", "mine")] == ["Byron", "King", "Lovelace"]
    assert manager.post(f"conflicts/{conflict}/assign/", {"assignee": "me"}).status == 200
    assert manager.post(f"conflicts/{conflict}/comment/", {"text": "She signs as Lovelace."}).status == 200

    # 6. The decision writes the record and closes the conflict in one transaction.
    decision = {"choices": {"last_name": "mine"}, "reason": "As she signs", "version": 3}
    decided = manager.post(f"conflicts/{conflict}/resolve/", decision)
    assert decided.status == 200, decided
    assert decided.json()["conflict"]["status"] == "resolved"
    record = manager.get(f"users/{key}/")
    assert (record["first_name"], record["last_name"]) == ("Augusta", "Lovelace")

    # 7. Both histories contain the resolution, under one correlation id.
    update, resolution = manager.events(f"user-{key}")[-1], manager.events(f"conflict-{conflict}")[-1]
    assert (update["data"], update["reason"]) == ({"last_name": "Lovelace"}, "As she signs")
    assert resolution["event"] == "conflict.resolved"
    assert update["correlation_id"] == resolution["correlation_id"]
