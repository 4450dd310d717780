"""The rights on figures: counts for every role, the timing of single submissions only with the right to the answers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests import live
from tests.flows.people import Caller, Person

pytestmark = pytest.mark.services

DAY = "2001-02-03"
STARTED = f"{DAY}T04:05:06Z"
RECEIVED = f"{DAY}T08:00:00Z"
SECONDS = 7654.0
MARKS = re.compile(r"7654|2\s?h\s07\s?min|2001-02-03T04:05:06")

FORM = "application/x-www-form-urlencoded"
HIDES = {"viewer"}


def places(user: str, form: str, submission: str) -> Mapping[str, str]:
    """The pages and API resources that show the timing of the submission, by name."""
    record = f"/admin/backoffice/submission/{submission}"
    return {
        "page: list": f"/admin/backoffice/submission/?form={form}",
        "page: row": f"/admin/backoffice/submission/rows/?ids={submission}",
        "page: record": f"{record}/change/",
        "page: history": f"{record}/history/",
        "page: form": f"/admin/backoffice/form/{form}/change/",
        "API: list": f"submissions/?form={form}",
        "API: record": f"submissions/{submission}/",
        "API: history": f"streams/submission-{submission}/",
        "API: state": f"streams/submission-{submission}/state/?version=1",
        "API: figures": f"metrics/forms/?from={DAY}&to={DAY}&consistent=1",
    }


def test_timing_of_a_single_submission_is_shown_with_the_answers_only(
    stack: live.Stack, person: Callable[[str], Person]
) -> None:
    admin = person("admin")
    user = admin.create("user")
    form = admin.create("form", user_id=user, title="A form")
    listeners = {role: person(role).listen("submissions") for role in live.ROLES}
    for listener in listeners.values():
        listener.__enter__()
    try:
        times = {"started_at": STARTED, "completion_time": SECONDS, "created_at": RECEIVED}
        submission = admin.create("submission", form_id=form, answers={"q": "Yes"}, **times)
        (event,) = admin.events(f"submission-{submission}")
        frames = {role: listener.wait_for(event["position"]) for role, listener in listeners.items()}
    finally:
        for listener in listeners.values():
            listener.__exit__(None, None, None)
    for role in live.ROLES:
        who = person(role)
        found = {name for name, path in places(user, form, submission).items() if MARKS.search(page(who, path))}
        found |= {"WebSocket"} if MARKS.search(json.dumps(frames[role].data)) else set()
        assert found == (set() if role in HIDES else {*places(user, form, submission), "WebSocket"}), role
        export = who.post(
            f"/admin/backoffice/user/{user}/export/", b"", content_type="application/x-www-form-urlencoded"
        )
        assert (export.status == 200) is (role in {"admin", "dpo"})
        assert bool(MARKS.search(export.text)) is (role in {"admin", "dpo"})


def page(who: Caller, path: str) -> str:
    answer = who.send("GET", path)
    assert answer.status == 200, (path, answer)
    return answer.text


def test_counts_are_shown_to_every_role_and_to_nobody_else(
    stack: live.Stack, person: Callable[[str], Person], program: Callable[..., Caller]
) -> None:
    admin = person("admin")
    user = admin.create("user", last_name="Counted")
    form = admin.create("form", user_id=user, title="Counted")
    for _ in range(3):
        admin.create("submission", form_id=form, answers={})
    stack.manage("refresh_views", "--force")

    def seen(who: Caller) -> dict[str, Any]:
        read = {path: who.send("GET", path) for path in (f"users/?search={user}", f"users/{user}/", f"forms/{form}/")}
        read |= {path: who.send("GET", path) for path in ("metrics/users/", "metrics/forms/?range=1d")}
        return {path: answer.json() if answer.status == 200 else answer.status for path, answer in read.items()}

    admin.get("users/?consistent=1")
    for role in live.ROLES:
        found = seen(person(role))
        listed, one, paper, users, days = found.values()
        assert [item["submission_count"] for item in listed["items"]] == [3], role
        assert (one["form_count"], one["submission_count"], one["recent_submissions"]) == (1, 3, 3)
        assert paper["submission_count"] == 3
        assert ("last_submission_at" in paper) is (role not in HIDES)
        assert users["items"]
        assert days["items"][0]["submissions"] >= 3
        forms = page(person(role), f"/admin/backoffice/form/?user={user}")
        assert ("Last submission" in forms) is (role not in HIDES)
        assert "Submissions" in forms
    anonymous, other = Caller(stack, {}), program("settings:read")
    assert set(seen(anonymous).values()) == {401}
    assert set(seen(other).values()) == {403}
