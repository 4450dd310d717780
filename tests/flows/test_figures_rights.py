"""The rights on figures: counts for every role, the time that a submission took only with the right to the answers."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urljoin

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
    """The pages and API resources that show how long the submission took, by name."""
    record = f"/admin/backoffice/submission/{submission}"
    return {
        "page: list": f"/admin/backoffice/submission/?form={form}",
        "page: row": f"/admin/backoffice/submission/rows/?ids={submission}",
        "page: record": f"{record}/change/",
        "page: history": f"{record}/history/",
        "page: version": f"{record}/history/1/",
        "page: form": f"/admin/backoffice/form/{form}/change/",
        "API: list": f"submissions/?form={form}",
        "API: record": f"submissions/{submission}/",
        "API: history": f"streams/submission-{submission}/",
        "API: state": f"streams/submission-{submission}/state/?version=1",
        "API: figures": f"metrics/forms/?from={DAY}&to={DAY}&consistent=1",
    }


def test_time_that_a_submission_took_is_shown_with_the_answers_only(
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
        shown = places(user, form, submission)
        found = {name for name, path in shown.items() if MARKS.search(page(who, path))}
        found |= {"WebSocket"} if MARKS.search(json.dumps(frames[role].data)) else set()
        assert found == (set() if role in HIDES else {*shown, "WebSocket"}), role
        export = who.post(
            f"/admin/backoffice/user/{user}/export/", b"", content_type="application/x-www-form-urlencoded"
        )
        assert (export.status == 200) is (role in {"admin", "dpo"})
        assert bool(MARKS.search(export.text)) is (role in {"admin", "dpo"})


def reached(who: Person, start: str, keys: Sequence[str]) -> dict[str, str]:
    """The pages that links about these records lead to, from a page on: address -> HTML."""
    found: dict[str, str] = {}
    waiting = [start]
    while waiting and len(found) < 60:
        address = waiting.pop()
        if address in found:
            continue
        answer = who.send("GET", address)
        found[address] = answer.text if answer.status == 200 else ""
        links = [html.unescape(link) for link in re.findall(r'href="([^"#]+)', found[address])]
        waiting += [
            joined
            for joined in (urljoin(address, link) for link in links)
            if joined.startswith("/admin/") and ("/events/" in joined or any(key in joined for key in keys))
        ]
    return found


@pytest.mark.parametrize("role", ["viewer", "agent"])
def test_time_that_a_submission_took_cannot_be_found_out_without_the_right(
    person: Callable[[str], Person], role: str
) -> None:
    """Neither by following links, nor by sorting, filtering, searching, cursors, or averages of single days."""
    admin, who = person("admin"), person(role)
    user = admin.create("user")
    form = admin.create("form", user_id=user, title="Asked")
    times = {"started_at": STARTED, "completion_time": SECONDS, "created_at": RECEIVED}
    submission = admin.create("submission", form_id=form, answers={"q": "Yes"}, **times)
    assert admin.command("submission.correct", submission, {"completion_time": SECONDS / 2}).status == 200
    assert admin.command("submission.correct", submission, {"completion_time": SECONDS}).status == 200
    marks = re.compile(f"{MARKS.pattern}|3827|1\\s?h\\s04\\s?min")
    start = f"/admin/backoffice/submission/{submission}/change/"
    pages = reached(who, start, (submission, form))
    seen = {address for address, content in pages.items() if marks.search(content)}
    assert len(pages) > 8
    assert bool(seen) is (role not in HIDES)
    for question in ("sort=completion_time", "sort=-started_at", "completion_time=7654", f"started_at={STARTED}"):
        assert who.send("GET", f"submissions/?form={form}&{question}").status == 400, question
    assert who.get("submissions/?search=7654")["items"] == []
    for path in (
        f"metrics/forms/?from={DAY}&to={DAY}&consistent=1",
        f"/admin/figures/completion-time.csv?from={DAY}&to={DAY}",
    ):
        assert bool(marks.search(who.send("GET", path).text)) is (role not in HIDES), path


def test_everybody_who_sees_a_submission_sees_when_it_was_received(person: Callable[[str], Person]) -> None:
    """In the submission itself and as the last one of its form: hiding one of them would hide nothing."""
    admin = person("admin")
    user = admin.create("user")
    form = admin.create("form", user_id=user, title="Received")
    submission = admin.create("submission", form_id=form, answers={}, created_at=RECEIVED)
    admin.get("forms/?consistent=1")
    record = f"/admin/backoffice/submission/{submission}"
    for path in (
        f"/admin/backoffice/submission/?form={form}",
        f"{record}/change/",
        f"/admin/backoffice/form/?user={user}",
        f"/admin/backoffice/form/{form}/change/",
        f"submissions/?form={form}",
        f"submissions/{submission}/",
        f"streams/submission-{submission}/",
        f"forms/{form}/",
        f"forms/?user={user}&sort=-last_submission_at",
    ):
        shown = {role: page(person(role), path).count(f"{DAY}T08:00:00") for role in live.ROLES}
        assert shown == dict.fromkeys(live.ROLES, shown["admin"]), path
        assert shown["admin"], path


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
        assert paper["last_submission_at"]
        assert users["items"]
        assert days["items"][0]["submissions"] >= 3
        forms = page(person(role), f"/admin/backoffice/form/?user={user}")
        assert "Last submission" in forms
        assert "Submissions" in forms
    anonymous, other = Caller(stack, {}), program("settings:read")
    assert set(seen(anonymous).values()) == {401}
    assert set(seen(other).values()) == {403}
