"""The journey of a restoration: history, comparison, an earlier version restored as a new event."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.flows.people import Person

pytestmark = pytest.mark.services


def test_earlier_version_is_restored_as_a_new_event(person: Callable[[str], Person]) -> None:
    manager = person("manager")
    key = manager.create("user", first_name="Ada", last_name="Byron")
    for change in ({"first_name": "Aida"}, {"last_name": "Biron"}):
        assert manager.command("user.update", key, change).status == 200
    record = f"/admin/backoffice/user/{key}"

    # 1. The history lists the versions; the comparison shows what changed between two of them.
    assert f"{record}/history/1/" in manager.page(f"{record}/history/")
    assert "Biron" in manager.page(f"{record}/compare/?a=1&b=3")

    # 2. The page of version 1 offers to restore it and shows what that would change.
    restore = f"{record}/history/1/restore/"
    form = manager.form(restore)

    # 3. Restoring dispatches an ordinary update: nothing is removed from the log.
    assert manager.submit(restore, form | {"reason": "Typed wrong"}).status == 302
    events = manager.events(f"user-{key}")
    assert [event["event"] for event in events] == ["user.created", *["user.updated"] * 3]
    assert events[-1]["data"] == {"first_name": "Ada", "last_name": "Byron"}
    assert events[-1]["reason"] == "Typed wrong"

    # 4. A deleted record is restored in the same way.
    assert manager.command("user.delete", key).status == 200
    assert manager.send("GET", f"users/{key}/").json()["deleted_at"]
    assert manager.command("user.restore", key).json()["version"] == 6
    assert manager.send("GET", f"users/{key}/").json()["deleted_at"] is None
