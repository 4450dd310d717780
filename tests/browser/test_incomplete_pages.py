"""A page that a script or a style sheet is missing from says so, and loads again when the server answers."""

from __future__ import annotations

import itertools
import re
import time
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.test_admin import command, live_now, new_user, record

pytestmark = [pytest.mark.browser, pytest.mark.services]

USERS = "/admin/backoffice/user/"
NOTICE = "[data-incomplete-notice]"


def lose(page: Any, part: str, *, times: int | None = None) -> None:
    """The network fails for this part of the page."""
    page.route(re.compile(rf"/{part}$"), lambda route: route.abort(), times=times)


@pytest.mark.parametrize(
    "part",
    [
        "backoffice/list.js",  # imported when the page needs it
        "backoffice/toasts.js",  # imported by the entry point
        "backoffice/page.js",
        "metrics/bell.js",
        "jsi18n/",
        "backoffice/app.css",
        "backoffice/lists.css",  # imported by that
    ],
)
def test_page_without_a_part_loads_again_and_is_live(manager: Any, agent: Any, part: str) -> None:
    key = new_user(manager, first_name="Before")
    lose(agent, part, times=1)
    navigations = itertools.count(1)
    with agent.expect_request(lambda request: request.is_navigation_request() and next(navigations) == 2):
        agent.goto(USERS)
    live_now(agent)
    expect(agent.locator(NOTICE)).to_be_hidden()
    command(manager, "user.update", key, {"first_name": "After"})
    expect(agent.locator(f'tr[data-id="{key}"] .name')).to_contain_text("After")


def test_page_with_typed_text_stays_and_says_that_it_is_incomplete(manager: Any, agent: Any) -> None:
    key = new_user(manager, first_name="Before")
    agent.route(re.compile("/backoffice/record.js$"), lambda route: route.abort() if typing else route.continue_())
    typing = True
    record(agent, key)
    agent.fill("[name=first_name]", "Typed")
    expect(agent.locator(f"{NOTICE} [data-incomplete-left]")).to_be_visible()
    expect(agent.locator("[data-live]")).to_have_attribute("data-state", "incomplete")
    expect(agent.locator("[name=first_name]")).to_have_value("Typed")
    typing = False
    agent.fill("[name=first_name]", "Before")
    expect(agent.locator(NOTICE)).to_be_hidden(timeout=60_000)
    live_now(agent)
    expect(agent.locator("[data-record][data-ready]")).to_be_visible()


def test_page_that_stays_incomplete_is_not_loaded_forever(agent: Any) -> None:
    agent.add_init_script(f"sessionStorage.setItem('incomplete', '[5, {int(time.time() * 1000)}]')")
    lose(agent, "backoffice/list.js")
    requested: list[str] = []
    agent.on("request", lambda request: request.is_navigation_request() and requested.append(request.url))
    agent.clock.install()
    agent.goto(USERS)
    expect(agent.locator(f"{NOTICE} [data-incomplete-left]")).to_be_visible()
    agent.clock.run_for(400_000)  # longer than reloads are counted
    expect(agent.locator("[data-live]")).to_have_attribute("data-state", "incomplete")
    assert len(requested) == 1
    agent.unroute_all()
    agent.locator(NOTICE).get_by_role("link").click()
    expect(agent.locator(NOTICE)).to_be_hidden()


def test_page_that_answered_a_post_is_not_posted_again(new_page: Any) -> None:
    page = new_page()
    lose(page, "backoffice/page.js")
    posted: list[str] = []
    page.on("request", lambda request: request.method == "POST" and posted.append(request.url))
    page.goto("/admin/login/")
    page.fill("[name=username]", "nobody")
    page.fill("[name=password]", "wrong")
    page.clock.install()
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.locator(f"{NOTICE} [data-incomplete-left]")).to_be_visible()
    page.clock.run_for(200_000)
    assert len(posted) == 1


def test_choice_in_a_posted_form_and_a_search_being_typed_stay(manager: Any) -> None:
    key = new_user(manager)
    is_away = True

    def answer(route: Any) -> None:
        if is_away and route.request.method == "HEAD":
            route.abort()
        else:
            route.continue_()

    manager.route(re.compile("/incomplete.js$"), answer)
    lose(manager, "backoffice/record.js")
    record(manager, key)
    manager.clock.install()
    waiting, left = (manager.locator(f"{NOTICE} [data-incomplete-{name}]") for name in ("waiting", "left"))
    choice, search = manager.locator("[name=plan]"), manager.locator("[data-search-dialog] input")
    before = choice.input_value()
    choice.select_option(index=1 if choice.evaluate("field => field.selectedIndex") == 0 else 0)
    is_away = False
    manager.clock.run_for(70_000)
    expect(left).to_be_visible()
    is_away = True
    choice.select_option(before)
    manager.clock.run_for(70_000)
    expect(waiting).to_be_visible()
    manager.keyboard.press("Control+k")
    search.fill("Ad")
    is_away = False
    manager.clock.run_for(70_000)
    expect(search).to_have_value("Ad")
    expect(manager.locator("[data-record][data-ready]")).to_have_count(0)


def test_script_of_a_browser_extension_that_fails_is_no_part_of_the_page(agent: Any) -> None:
    agent.goto(USERS)
    live_now(agent)
    failing = "document.head.appendChild(document.createElement('script')).dispatchEvent(new Event('error'))"
    assert not agent.evaluate(f"{failing} && 'incomplete' in document.documentElement.dataset")
