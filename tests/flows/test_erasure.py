"""The journey of an erasure: request, dropped keys, purged copies, a log that still verifies."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests import live
from tests.flows.people import Caller, Person

pytestmark = pytest.mark.services

FORM = "application/x-www-form-urlencoded"
NAME = "Quimperline"  # occurs nowhere else in the database


def test_erased_person_can_be_read_nowhere_and_the_log_still_verifies(
    stack: live.Stack, person: Callable[[str], Person]
) -> None:
    manager, officer = person("manager"), person("dpo")
    user = manager.create("user", first_name="Zoe", last_name=NAME)
    question = {"id": "q", "type": "text", "label": f"Is {NAME} right?"}
    form = manager.create("form", user_id=user, title=f"Letters of {NAME}", fields=[question])
    submission = manager.create("submission", form_id=form, answers={"q": f"{NAME}, yes"})
    record = f"/admin/backoffice/user/{user}"
    places = [f"users/{user}/", f"forms/{form}/", f"submissions/{submission}/", f"streams/user-{user}/"]
    pages = [f"{record}/change/", f"{record}/history/", f"/admin/backoffice/submission/{submission}/change/"]

    def readable(caller: Caller) -> list[str]:
        return [place for place in (*places, *pages) if NAME in caller.send("GET", place).text]

    assert readable(manager) == [*places, *pages]

    # 1. An export hands over everything about the person first.
    assert NAME in officer.post(f"{record}/export/", b"", content_type=FORM).text

    # 2. Only some roles may erase, and a reason is required.
    assert manager.command("user.erase", user, reason="Asked by letter").status == 403
    assert officer.command("user.erase", user).json()["code"] == "reason_required"

    # 3. The erasure drops the person's key and overwrites every readable copy.
    with person("viewer").listen(f"user:{user}") as listener:
        erased = officer.command("user.erase", user, reason="Asked by letter").json()
        assert erased["status"] == "applied"

        # 4. Open pages receive the erasure.
        assert listener.wait_for(erased["position"]).event == "user.erased"
    assert readable(manager) == []
    assert readable(person("admin")) == []

    # 5. The log still says who erased the person, when and why.
    last = officer.events(f"user-{user}")[-1]
    assert (last["event"], last["reason"]) == ("user.erased", "Asked by letter")

    # 6. No later command restores the person.
    assert manager.command("user.restore", user).status == 410
    assert manager.command("user.update", user, {"first_name": "Zoe"}).status == 410

    # 7. Hashes, chains and seals of the log are unchanged.
    assert json.loads(stack.manage("verify_events", "--stream", f"user-{user}", "--json"))["ok"]
