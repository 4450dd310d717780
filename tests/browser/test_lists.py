"""Open lists during bursts of changes: few requests and correct numbers."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from tests import live
from tests.browser.test_admin import PHONE, command, expect, live_now, new_user

pytestmark = [pytest.mark.browser, pytest.mark.services]


def sync(page: Any, mutations: list[dict[str, Any]]) -> None:
    """Sends many commands in one request."""
    token = next(cookie["value"] for cookie in page.context.cookies() if cookie["name"] == "csrftoken")
    numbered = [{"seq": seq, "id": str(uuid.uuid4()), **each} for seq, each in enumerate(mutations)]
    body = {"client_id": "test", "mutations": numbered}
    answer = page.request.post("/api/v1/sync/", data=body, headers={"X-CSRFToken": token})
    assert {each["status"] for each in answer.json()["results"]} == {"applied"}


def new_users(size: int) -> list[dict[str, Any]]:
    keys = [str(uuid.uuid4()) for _ in range(size)]
    return [{"type": "user.create", "key": key, "data": {"email": f"{key}@example.org"}} for key in keys]


def requests_of(page: Any, path: str) -> list[str]:
    """Collects the URLs that the page requests from now on."""
    found: list[str] = []
    page.on("request", lambda request: found.append(request.url) if path in request.url else None)
    return found


def frames_of(page: Any) -> list[str]:
    """Collects the frames that the page receives on the sockets it opens from now on."""
    found: list[str] = []

    def collect(frame: Any) -> None:
        found.append(str(frame))

    page.on("websocket", lambda socket: socket.on("framereceived", collect))
    return found


def arrives(page: Any, received: list[str], text: str) -> None:
    deadline = time.monotonic() + 10
    while not any(text in frame for frame in received):
        assert time.monotonic() < deadline, "the socket has not received it"
        page.wait_for_timeout(20)


def test_list_asks_about_two_hundred_new_records_and_no_more(new_page: Callable[..., Any], stack: live.Stack) -> None:
    manager = new_page(role="manager", at="")
    watcher = new_page(role="agent", at="")
    received = frames_of(watcher)
    watcher.goto("/admin/backoffice/user/")
    live_now(watcher)
    asked = requests_of(watcher, "/rows/?new=")  # its numbers are refreshed by other requests
    button = watcher.locator("[data-news-show]")
    sync(manager, new_users(150))
    expect(button).to_have_text("150 new: show")
    sync(manager, new_users(200))
    expect(button).to_have_text("200+ new: show")
    before = len(asked)
    sync(manager, new_users(100))
    last = new_user(manager)
    arrives(watcher, received, last)
    watcher.evaluate("() => document.querySelector('[data-news-show]').click()")
    expect(button).to_be_hidden()
    assert len(asked) == before, "nothing is asked once the number is full"
    key = new_user(manager)
    expect(button).to_have_text("1 new: show")
    command(manager, "user.delete", key, {})
    expect(button).to_be_hidden()


def test_erasure_causes_few_requests_of_an_open_list(new_page: Callable[..., Any], stack: live.Stack) -> None:
    manager = new_page(role="manager", at="")
    owner, other = new_user(manager), new_user(manager)
    form = {"type": "form.create", "data": {"user_id": owner, "title": "Quimper"}}
    sync(manager, [{**form, "key": str(uuid.uuid4())} for _ in range(20)])
    watcher = new_page(role="agent", at="")
    watcher.goto("/admin/backoffice/form/")
    live_now(watcher)
    body = watcher.locator("[data-list-body]")
    expect(body).to_contain_text("Quimper")
    asked = requests_of(watcher, "/admin/backoffice/form/")
    command(new_page(role="dpo", at=""), "user.erase", owner, {}, reason="Asked by letter")
    expect(body).not_to_contain_text("Quimper")
    command(manager, "form.create", uuid.uuid4(), {"user_id": other, "title": "Later"})
    # Both ways it is announced after all erasures: behind the button, or in a list that was fetched after it.
    expect(watcher.locator("[data-list]")).to_contain_text(re.compile("1 new: show|Later"))
    assert len(asked) <= 4, asked


def test_name_of_a_user_can_be_read_beside_all_columns(new_page: Callable[..., Any]) -> None:
    manager = new_page(role="manager", at="", viewport={"width": 1280, "height": 860}, locale="fr")
    key = str(uuid.uuid4())
    data = {"email": f"{key}@example.org", "first_name": "Bartholomew", "last_name": "Lovelace"}
    sync(manager, [{"type": "user.create", "key": key, "data": data}])
    manager.goto("/admin/backoffice/user/")
    name = manager.locator(f'tr[data-id="{key}"] .name')
    expect(name).to_contain_text("Bartholomew Lovelace")
    assert name.evaluate("(name) => name.scrollWidth <= name.clientWidth"), "no ellipsis"


CUT = "(name) => name.scrollWidth > name.clientWidth || name.scrollHeight > name.clientHeight"


@pytest.mark.parametrize("locale", ["en", "fr"])
def test_long_names_can_be_read_on_a_phone(new_page: Callable[..., Any], locale: str) -> None:
    """They take two lines, because the other cells are below each other."""
    manager = new_page(role="manager", at="", viewport=PHONE, locale=locale)
    key, form = str(uuid.uuid4()), str(uuid.uuid4())
    person = {"email": f"{key}@example.org", "first_name": "Anne-Sophie", "last_name": "de La Rochefoucauld-Montbel"}
    title = "Habits of international students in the capital"
    made = [
        {"type": "user.create", "key": key, "data": {**person, "plan": "enterprise"}},
        {"type": "form.create", "key": form, "data": {"user_id": key, "title": title}},
        {"type": "submission.receive", "key": str(uuid.uuid4()), "data": {"form_id": form, "answers": {}}},
        {"type": "form.update", "key": form, "data": {"archived": True}},
    ]
    sync(manager, made)
    for category, text in (("user", "Anne-Sophie de La Rochefoucauld-Montbel"), ("form", title), ("submission", title)):
        manager.goto(f"/admin/backoffice/{category}/")
        name = manager.locator("tr[data-id] .name", has_text=text).first
        expect(name).to_be_visible()
        assert not name.evaluate(CUT), f"the name in the list of {category} is cut"
        lines = name.evaluate("(name) => name.clientHeight / parseFloat(getComputedStyle(name).lineHeight)")
        assert 1.9 < lines < 2.1, category
        assert manager.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
