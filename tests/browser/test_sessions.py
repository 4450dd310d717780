"""Two people one after the other in one browser: no data of the first reaches the second or stays visible."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from tests import conftest, live
from tests.browser.test_admin import PHONE, command, expect, live_now, new_user, record

pytestmark = [pytest.mark.browser, pytest.mark.services]

FOLLOW = """async () => {
    const { connect } = await import("/static/realtime/index.js");
    const { session } = document.querySelector("[data-session]").dataset;
    window.seen = [];
    window.line = connect({ url: "/ws/admin/", session });
    await new Promise((resolve) => line.subscribe(["users"], {
        onEvent: (event) => seen.push(event), onSubscribed: resolve,
    }));
}"""


class HeldRequests:
    """Holds requests for an address until `let_through`; those held before stay in `held`."""

    def __init__(self, page: Any, address: str) -> None:
        self.held: list[Any] = []
        self.hold = True
        page.route(address, self.take)

    def take(self, route: Any) -> None:
        if self.hold:
            self.held.append(route)
        else:
            route.continue_()

    def let_through(self) -> None:
        self.hold = False


def take_over(context: Any, stack: live.Stack, role: str) -> str:
    """Replaces the browser's cookie by one of another session."""
    key = stack.session(role)
    context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": key, "url": stack.url}])
    return key


def session_of(page: Any) -> str:
    cookies = {cookie["name"]: cookie["value"] for cookie in page.context.cookies()}
    return str(cookies[settings.SESSION_COOKIE_NAME])


def end(stack: live.Stack, key: str) -> None:
    stack.query("delete from django_session where session_key = %s", key)


def test_tab_of_next_person_gets_its_own_frames_only(new_page: Callable[..., Any], stack: live.Stack) -> None:
    """The first tab has the socket, and its session stays valid."""
    writer = new_page(role="admin")
    first = new_page(role="manager")
    first.evaluate(FOLLOW)
    take_over(first.context, stack, "viewer")
    second = first.context.new_page()
    second.goto("/admin/")
    second.evaluate(FOLLOW)
    key = new_user(writer, first_name="Ada", email="canary@example.org")
    for page in (first, second):
        page.wait_for_function("key => seen.some((event) => event.stream === `user-${key}`)", arg=key)
    assert "canary" in first.evaluate("JSON.stringify(seen)")
    assert "canary" not in second.evaluate("JSON.stringify(seen)"), "a viewer does not see addresses"


def test_page_restored_under_another_cookie_sends_no_requests(new_page: Callable[..., Any], stack: live.Stack) -> None:
    writer = new_page(role="admin")
    page = new_page(role="viewer")
    page.evaluate(FOLLOW)
    take_over(page.context, stack, "manager")
    stack.kill_web()
    page.wait_for_function("() => line.state === 'reconnecting'")
    stack.start_web()
    page.wait_for_function("() => line.state === 'stopped' && line.code === 4505")
    new_user(writer, email="canary2@example.org")
    assert page.evaluate("JSON.stringify(seen)") == "[]"
    expect(page.locator("[data-cover]")).to_be_visible()


@pytest.mark.parametrize(
    "options",
    [{}, {"color_scheme": "dark"}, {"locale": "fr", "viewport": PHONE}],
    ids=["light", "dark", "french phone"],
)
def test_list_is_covered_when_its_session_ends(
    new_page: Callable[..., Any], stack: live.Stack, options: dict[str, Any]
) -> None:
    page = new_page(role="manager", at="", **options)
    new_user(new_page(role="admin"), first_name="Canary")
    page.goto("/admin/backoffice/user/?search=Canary")
    expect(page.locator("#content")).to_contain_text("Canary")
    live_now(page)
    end(stack, session_of(page))
    cover = page.locator("[data-cover]")
    expect(cover).to_be_visible()
    expect(page.get_by_role("alertdialog")).to_be_visible()
    assert "Canary" not in page.inner_text("body")
    assert "Canary" not in page.title()
    if not options.get("locale"):
        expect(cover).to_contain_text("You were signed out")
    door = cover.get_by_role("link")
    expect(door).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Shift+Tab")
    expect(door).to_be_focused()
    if folder := os.environ.get("PICTURES"):
        page.screenshot(path=Path(folder) / f"cover-{options.get('color_scheme', options.get('locale', 'light'))}.png")
    page.keyboard.press("Enter")
    page.wait_for_url("**/admin/login/?next=*")
    page.fill("input[name=username]", "manager")
    page.fill("input[name=password]", live.PASSWORD)
    page.press("input[name=password]", "Enter")
    expect(page.locator("#content")).to_contain_text("Canary")


@pytest.mark.parametrize("at", ["/admin/", "/admin/password_change/", "/admin/search/?q=x"])
def test_pages_without_live_content_are_covered_too(new_page: Callable[..., Any], stack: live.Stack, at: str) -> None:
    page = new_page(role="viewer", at="")
    with page.expect_websocket() as opened:
        page.goto(at)
    opened.value.wait_for_event("framereceived")
    end(stack, session_of(page))
    expect(page.locator("[data-cover]")).to_be_visible()


def test_page_is_emptied_when_another_person_signs_in(new_page: Callable[..., Any], stack: live.Stack) -> None:
    page = new_page(role="manager", at="")
    key = new_user(new_page(role="admin"), first_name="Canary")
    record(page, key)
    page.fill("[name=first_name]", "Canary typed")
    live_now(page)
    before = session_of(page)
    page.context.clear_cookies(name=settings.SESSION_COOKIE_NAME)
    other = page.context.new_page()
    conftest.sign_in(other, "viewer")
    end(stack, before)
    expect(page.locator("p[data-cover-words=other]")).to_be_visible()
    page.wait_for_function("() => document.body.children.length === 1")
    assert "Canary" not in page.content()
    expect(other.locator("[data-cover]")).to_be_hidden()
    page.locator("[data-cover-link]").click()
    page.wait_for_url("**/admin/")


def test_same_person_continues_in_a_new_session_with_typing(new_page: Callable[..., Any], stack: live.Stack) -> None:
    page, other = new_page(role="manager", at=""), new_page(role="admin")
    key = new_user(other, first_name="Ada")
    record(page, key)
    live_now(page)
    page.fill("[name=first_name]", "Typed before")
    before = session_of(page)
    take_over(page.context, stack, "manager")
    end(stack, before)
    live_now(page)
    expect(page.locator("[data-live]")).to_have_attribute("data-state", "live")
    command(other, "user.update", key, {"last_name": "Lovelace"}, base_version=1)
    expect(page.locator("[name=last_name]")).to_have_value("Lovelace")
    expect(page.locator("[name=first_name]")).to_have_value("Typed before")
    expect(page.locator("[data-cover]")).to_be_hidden()


def test_page_is_uncovered_when_the_same_person_signs_in_again(new_page: Callable[..., Any], stack: live.Stack) -> None:
    page = new_page(role="manager", at="")
    key = new_user(new_page(role="admin"), first_name="Ada")
    record(page, key)
    live_now(page)
    page.fill("[name=first_name]", "Typed before")
    end(stack, session_of(page))
    expect(page.locator("[data-cover]")).to_be_visible()
    take_over(page.context, stack, "manager")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator("[data-cover]")).to_be_hidden()
    expect(page.locator("[name=first_name]")).to_have_value("Typed before")
    live_now(page)


def test_person_who_signs_in_again_from_a_page_with_typing_finds_it_there(
    new_page: Callable[..., Any], stack: live.Stack
) -> None:
    page = new_page(role="manager", at="/admin/backoffice/user/add/")
    page.fill("[name=first_name]", "Typed before")
    end(stack, session_of(page))
    expect(page.locator("[data-cover]")).to_be_visible()
    with page.expect_popup() as opened:
        page.locator("[data-cover-link]").click()
    take_over(page.context, stack, "manager")
    opened.value.close()
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator("[data-cover]")).to_be_hidden()
    expect(page.locator("[name=first_name]")).to_have_value("Typed before")


def test_page_is_covered_while_nobody_answers_who_is_signed_in(new_page: Callable[..., Any], stack: live.Stack) -> None:
    """The request for the person hangs, as at a proxy whose server is gone, and never gives up."""
    page = new_page(role="manager", at="")
    page.add_init_script("AbortSignal.timeout = () => new AbortController().signal")
    key = new_user(new_page(role="admin"), first_name="Canary")
    record(page, key)
    live_now(page)
    page.fill("[name=first_name]", "Canary typed")
    person = HeldRequests(page, "**/admin/offline/person/")
    before = session_of(page)
    take_over(page.context, stack, "manager")
    end(stack, before)
    expect(page.locator("p[data-cover-words=checking]")).to_be_visible()
    expect(page.locator("[data-cover-link]")).to_be_focused()
    assert "Canary" not in page.inner_text("body")
    assert "Canary" not in page.title()
    person.let_through()
    for route in person.held:
        route.continue_()
    expect(page.locator("[data-cover]")).to_be_hidden()
    expect(page.locator("[name=first_name]")).to_have_value("Canary typed")
    expect(page.locator("[name=first_name]")).to_be_focused()
    live_now(page)


def test_late_answer_of_an_earlier_check_does_not_cover_the_page_again(
    new_page: Callable[..., Any], stack: live.Stack
) -> None:
    page = new_page(role="manager", at="")
    record(page, new_user(new_page(role="admin"), first_name="Ada"))
    live_now(page)
    person = HeldRequests(page, "**/admin/offline/person/")
    before = session_of(page)
    end(stack, before)
    expect(page.locator("p[data-cover-words=checking]")).to_be_visible()
    person.let_through()
    take_over(page.context, stack, "manager")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator("[data-cover]")).to_be_hidden()
    with page.expect_event("requestfailed", lambda request: request.url.endswith("/admin/offline/person/")):
        for route in person.held:
            route.abort()
    page.evaluate("() => new Promise((resolve) => setTimeout(resolve))")
    expect(page.locator("[data-cover]")).to_be_hidden()
    live_now(page)
