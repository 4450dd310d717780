"""An open record brings in saves of others and of its own: no false conflict, no lost caret, no reverted change."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from tests import live
from tests.browser.second_person import SecondPerson
from tests.browser.test_admin import command, new_user
from tests.browser.test_editing import caret, new_form, opened, put_caret
from tests.browser.test_offline import queued, save, save_offline

pytestmark = [pytest.mark.browser, pytest.mark.services]


def held_answers(page: Any, address: str) -> list[Callable[[], None]]:
    """Holds the answers to requests; each item of the returned list lets one arrive."""
    held: list[Callable[[], None]] = []

    def hold(route: Any) -> None:
        answer = route.fetch(max_redirects=0)
        held.append(lambda: route.fulfill(response=answer))

    page.route(address, hold)
    return held


def no_conflict(page: Any) -> None:
    expect(page.locator("[data-theirs]:visible")).to_have_count(0)


def test_text_typed_on_a_queued_edit_merges_when_an_update_overtakes_its_verdict(
    manager: Any, agent: Any, other: SecondPerson, stack: live.Stack
) -> None:
    key = new_form(manager, description="one\ntwo\nthree")
    opened(agent, key)
    save_offline(agent, description="one\ntwo\nthree, mine")
    other.save("form.update", key, {"description": "one, theirs\ntwo\nthree"})
    held = held_answers(agent, "**/sync/")
    agent.context.set_offline(False)
    expect(agent.locator("[data-record]")).to_have_attribute("data-version", "3")
    description = agent.locator("[name=description]")
    put_caret(description, len("one\ntwo\nthree, mine"))
    agent.keyboard.type(" and since")
    held[0]()
    merged = "one, theirs\ntwo\nthree, mine and since"
    expect(description).to_have_value(merged)
    expect(agent.locator("[name=base_version]")).to_have_value("3")
    no_conflict(agent)
    agent.click("[data-save]")
    expect(agent.locator(".toast").last).to_contain_text("Saved as version 4")
    assert stack.query("select description from forms where id = %s", key) == [(merged,)]


def test_keep_mine_keeps_an_own_choice(manager: Any, stack: live.Stack) -> None:
    key = new_user(manager, plan="free")
    opened(manager, key, "user")
    manager.select_option("[name=plan]", "premium")
    SecondPerson(stack, "admin").save("user.update", key, {"plan": "enterprise"}, reason="Asked")
    manager.get_by_role("button", name="Keep mine").click()
    expect(manager.locator("[name=plan]")).to_have_value("premium")
    save(manager, reason="Asked too")
    expect(manager.locator(".toast").last).to_contain_text("Saved as version 3")
    assert stack.query("select plan from users where id = %s", key) == [("premium",)]


def test_another_layout_of_the_same_json_is_no_conflict(new_page: Callable[..., Any], stack: live.Stack) -> None:
    """The server returns the value in its own layout while the author types on."""
    admin = new_page(role="admin", at="")
    key = f"merging.{uuid.uuid4().hex[:8]}"
    command(admin, "setting.set", key, {"value": 1})
    opened(admin, key, "setting")
    held = held_answers(admin, "**/change/")
    save(admin, value='{"a":[1,2]}', reason="First")
    with admin.expect_response("**/live/**"):
        admin.fill("[name=value]", '{"a":[1,2,3]}')
        while not held:
            admin.wait_for_timeout(20)  # lets Playwright handle the route
        held[0]()
    expect(admin.locator("[data-toasts]")).to_contain_text("Saved as version 2. What you typed since then")
    expect(admin.locator("[data-record]")).to_have_attribute("data-version", "2")
    no_conflict(admin)
    admin.unroute("**/change/")
    save(admin, reason="Second")
    expect(admin.locator(".toast.success").last).to_contain_text("Saved as version 3")
    assert stack.query("select value from settings where key = %s", key) == [({"a": [1, 2, 3]},)]


def test_save_that_stays_open_names_its_own_version_and_shows_the_change_of_the_other(
    manager: Any, agent: Any, other: SecondPerson
) -> None:
    key = new_user(manager, first_name="Ada", last_name="Base")
    opened(agent, key, "user")

    def save_too(route: Any) -> None:
        """The other person saves between the save of this page and the answer to it."""
        answer = route.fetch(max_redirects=0)
        agent.fill("[name=first_name]", "Mine and more")
        other.save("user.update", key, {"last_name": "Theirs"})
        found = answer.json()
        newer = {"version": 3, "values": {**found["values"], "last_name": "Theirs"}}
        route.fulfill(response=answer, json={**found, **newer})  # as the server answers when the other is quick

    agent.route("**/change/", save_too)
    save(agent, first_name="Mine")
    expect(agent.locator("[data-toasts]")).to_contain_text("Saved as version 2. What you typed since then")
    expect(agent.locator("[data-meanwhile]")).to_contain_text("manager changed last name")
    expect(agent.locator("[data-meanwhile]")).not_to_contain_text("another window")
    expect(agent.locator("[name=first_name]")).to_have_value("Mine and more")
    no_conflict(agent)


def test_change_of_an_untouched_email_address_keeps_the_caret(manager: Any, agent: Any, other: SecondPerson) -> None:
    name = uuid.uuid4().hex
    key = new_user(manager, email=f"{name}@example.org")
    opened(agent, key, "user")
    email = agent.locator("[name=email]")
    put_caret(email, len(name))
    other.save("user.update", key, {"email": f"{name}@mail.example.org"}, reason="Moved")
    expect(email).to_have_value(f"{name}@mail.example.org")
    assert caret(email) == [len(name)] * 2
    agent.keyboard.type("x")
    expect(email).to_have_value(f"{name}x@mail.example.org")


def test_invalid_email_address_is_reported_offline(manager: Any, agent: Any) -> None:
    key = new_user(manager)
    opened(agent, key, "user")
    agent.context.set_offline(True)
    save(agent, email="no address", reason="By letter")
    expect(agent.locator(".field-email .complaint")).to_contain_text("@")
    expect(agent.locator("[data-queued]")).to_be_hidden()
    save(agent, email=f"{key}@new.example")
    queued(agent, "1 waiting")


def test_change_of_a_number_is_no_conflict_in_another_one(new_page: Callable[..., Any], stack: live.Stack) -> None:
    admin, other = new_page(role="admin", at=""), SecondPerson(stack, "admin")
    key = f"r{uuid.uuid4().hex[:8]}"
    rule = {"title": "Load", "metric": "tls.days_left", "warn": 5, "clear": 4}
    command(admin, "rule.create", key, rule)
    opened(admin, key, "rule")
    admin.fill("[name=warn]", "6")
    other.save("rule.update", key, {"title": "Load of the machine", "keep_seconds": 60})
    expect(admin.locator("[name=title]")).to_have_value("Load of the machine")
    expect(admin.locator("[name=clear]")).to_have_value("4.0")
    expect(admin.locator("[name=warn]")).to_have_value("6")
    no_conflict(admin)
    admin.click("[data-save]")
    expect(admin.locator(".toast.success")).to_contain_text("Saved as version 3")
