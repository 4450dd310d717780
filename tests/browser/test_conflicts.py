"""Resolving a conflict in Chromium: with the keyboard, without scripts, after closing a tab, by two people."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from tests import live

pytestmark = pytest.mark.browser


def command(page: Any, kind: str, key: str, data: dict[str, Any], **more: Any) -> Any:
    """Sends a command as the person of this page."""
    body = {"id": str(uuid.uuid4()), "type": kind, "key": key, "data": data, **more}
    token = next(cookie["value"] for cookie in page.context.cookies() if cookie["name"] == "csrftoken")
    headers = {"X-CSRFToken": token, "Referer": page.url}
    return page.request.post("/api/v1/commands/", data=body, headers=headers)


def person(page: Any, **fields: Any) -> str:
    key = str(uuid.uuid4())
    given = {"email": f"{key}@example.org", "first_name": "Ada", "last_name": "Base", **fields}
    assert command(page, "user.create", key, given).status == 200
    return key


def conflict(page: Any, key: str, mine: dict[str, Any], theirs: dict[str, Any], kind: str = "user.update") -> str:
    """Makes two changes of one version; returns the id of the conflict."""
    assert command(page, kind, key, theirs, base_version=1, reason="their reason").status == 200
    answer = command(page, kind, key, mine, base_version=1, reason="my reason")
    assert answer.status == 409
    found: str = answer.json()["conflict_id"]
    return found


def state(page: Any, key: str, name: str = "users") -> dict[str, Any]:
    found: dict[str, Any] = page.request.get(f"/api/v1/{name}/{key}/").json()
    return found


def settle_url(found: str) -> str:
    return f"/admin/backoffice/conflict/{found}/change/"


def opened(page: Any, found: str) -> None:
    """Opens the conflict's page and waits until its script handles keys."""
    page.goto(settle_url(found))
    expect(page.locator("[data-place].at")).to_be_visible()


def test_conflict_is_resolved_with_the_keyboard_alone(manager: Any) -> None:
    key = person(manager)
    mine = {"first_name": "Mine", "last_name": "Mine", "plan": "premium"}
    theirs = {"first_name": "Theirs", "last_name": "Theirs", "plan": "enterprise"}
    opened(manager, conflict(manager, key, mine, theirs))
    labels = manager.locator("[data-place] h2")
    assert labels.all_inner_texts() == ["First name", "Last name", "Plan"]
    press = manager.keyboard.press
    press("m")
    press("n")
    press("e")
    manager.keyboard.type("Typed")
    press("Escape")
    press("n")
    press("m")
    press("p")
    press("n")
    press("t")
    expect(manager.locator("[data-preview] ins").first).to_have_text("Mine")
    press("Control+s")
    manager.wait_for_url(f"**/user/{key}/change/")
    found = state(manager, key)
    assert (found["first_name"], found["last_name"], found["plan"]) == ("Mine", "Typed", "enterprise")


def test_stale_save_leads_to_the_conflict_page_and_keeps_typing(new_page: Callable[..., Any], manager: Any) -> None:
    key = person(manager)
    agent = new_page("agent", at=f"/admin/backoffice/user/{key}/change/")
    agent.fill("[name=last_name]", "Typed by the agent")
    assert command(manager, "user.update", key, {"last_name": "Saved by the manager"}, base_version=1).status == 200
    agent.click("[data-save]")
    agent.wait_for_url("**/conflict/*/change/")
    expect(agent.locator("[data-place].at")).to_be_visible()
    expect(agent.locator('[data-value="mine"]')).to_have_text("Typed by the agent")
    expect(agent.locator('[data-value="theirs"]')).to_have_text("Saved by the manager")
    agent.keyboard.press("m")
    expect(agent.locator("[data-preview] ins")).to_have_text("Typed by the agent")
    agent.click("[data-save]")
    agent.wait_for_url(f"**/user/{key}/change/")
    assert state(manager, key)["last_name"] == "Typed by the agent"


def test_conflict_page_works_without_scripts(new_page: Callable[..., Any], manager: Any) -> None:
    key = person(manager)
    found = conflict(manager, key, {"last_name": "Mine", "plan": "premium"}, {"last_name": "Theirs", "plan": "free"})
    plain = new_page("manager", at="", java_script_enabled=False)
    plain.goto(settle_url(found))
    plain.click("[data-save]")
    expect(plain.locator("[data-error]")).to_be_visible()
    plain.check('[data-choice][value="value"]')
    plain.fill("[name=value-0]", "Typed")
    plain.click("[name=preview]")
    expect(plain.locator("[data-preview] ins").first).to_have_text("Typed")
    plain.click("[data-save]")
    plain.wait_for_url(f"**/user/{key}/change/")
    found_now = state(manager, key)
    assert (found_now["last_name"], found_now["plan"]) == ("Typed", "premium")


def test_draft_survives_closing_the_tab(manager: Any) -> None:
    key = person(manager)
    found = conflict(manager, key, {"last_name": "Mine"}, {"last_name": "Theirs"})
    opened(manager, found)
    manager.fill("[data-typed]", "Half a though")
    first = manager
    again = manager.context.new_page()
    first.close()
    opened(again, found)
    expect(again.locator("[data-typed]")).to_have_value("Half a though")
    expect(again.locator('[data-choice][value="value"]')).to_be_checked()
    expect(again.locator("[data-preview] ins")).to_have_text("Half a though")


def test_second_person_is_notified_when_the_first_resolves_the_conflict(
    new_page: Callable[..., Any], manager: Any
) -> None:
    key = person(manager)
    found = conflict(manager, key, {"last_name": "Mine"}, {"last_name": "Theirs"})
    admin = new_page("admin", at="")
    for page in (manager, admin):
        opened(page, found)
        expect(page.locator("[data-live][data-state=live]")).to_be_visible()
    manager.keyboard.press("m")
    manager.keyboard.press("Control+s")
    manager.wait_for_url(f"**/user/{key}/change/")
    expect(admin.locator("[data-moved]")).to_contain_text("closed")
    admin.check('[data-choice][value="theirs"]')
    admin.click("[data-save]")
    expect(admin.locator("[data-error]")).to_contain_text("This conflict is already closed")
    assert state(manager, key)["last_name"] == "Mine"


def test_inbox_badge_and_inbox_update_live(new_page: Callable[..., Any], manager: Any) -> None:
    watcher = new_page("agent", at="/admin/backoffice/conflict/?status=open")
    expect(watcher.locator("[data-live][data-state=live]")).to_be_visible()
    badge = watcher.locator("[data-inbox-badge]")
    before = int(badge.text_content() or 0)
    key = person(manager, last_name="Watched")
    found = conflict(manager, key, {"last_name": "Mine"}, {"last_name": "Theirs"})
    expect(badge).to_have_text(str(before + 1))
    expect(watcher.locator("[data-news-show]")).to_be_visible()
    watcher.click("[data-news-show]")
    expect(watcher.locator(f'tr[data-id="{found}"]')).to_contain_text("Last name")


def test_long_text_is_resolved_line_by_line(manager: Any) -> None:
    owner, key = person(manager), str(uuid.uuid4())
    text = "one\ntwo\nthree\nfour\nfive"
    created = command(manager, "form.create", key, {"user_id": owner, "title": "T", "description": text, "fields": []})
    assert created.status == 200
    mine = text.replace("two", "two, mine").replace("five", "five, mine")
    found = conflict(
        manager, key, {"description": mine}, {"description": text.replace("two", "two, theirs")}, "form.update"
    )
    opened(manager, found)
    manager.click('[data-lines-take="both"]')
    merged = "one\ntwo, theirs\ntwo, mine\nthree\nfour\nfive, mine"
    expect(manager.locator("[data-typed]")).to_have_value(merged)
    manager.click("[data-save]")
    manager.wait_for_url(f"**/form/{key}/change/")
    assert state(manager, key, "forms")["description"] == merged


FORBIDDEN_STORAGE = """
Object.defineProperty(window, "localStorage", { get() { throw new DOMException("denied", "SecurityError"); } });
"""


@pytest.fixture
def forgetful(new_page: Callable[..., Any], stack: live.Stack) -> Any:
    """A person whose browser forbids storage, so that there is no draft."""
    page = new_page("admin", at="")
    page.add_init_script(FORBIDDEN_STORAGE)
    page.route("**/admin/js/theme.js", lambda route: route.fulfill(body=""))  # Django's, which does not expect this
    return page


def test_choices_stay_when_the_record_changes_again_without_a_draft(forgetful: Any, manager: Any) -> None:
    key = person(manager)
    opened(forgetful, conflict(manager, key, {"first_name": "Mine"}, {"first_name": "Theirs"}))
    forgetful.fill("[data-typed]", "Typed")
    forgetful.fill("[data-reason]", "Because")
    expect(forgetful.locator("[data-live]")).to_have_attribute("data-state", "live")
    assert command(manager, "user.update", key, {"first_name": "Theirs again"}).status == 200
    forgetful.get_by_role("button", name="Show current state").click()
    expect(forgetful.locator("[data-value=theirs]")).to_have_text("Theirs again")
    expect(forgetful.locator("[data-typed]")).to_have_value("Typed")
    expect(forgetful.locator("[data-reason]")).to_have_value("Because")
    expect(forgetful.locator("[data-preview] ins")).to_have_text("Typed")
    forgetful.keyboard.press("Control+s")
    forgetful.wait_for_url(f"**/user/{key}/change/")
    assert state(manager, key)["first_name"] == "Typed"


def test_save_on_a_record_that_changed_again_shows_it_and_keeps_the_choices(forgetful: Any, manager: Any) -> None:
    key = person(manager)
    opened(forgetful, conflict(manager, key, {"first_name": "Mine"}, {"first_name": "Theirs"}))
    forgetful.fill("[data-typed]", "Typed")
    forgetful.evaluate("window.samePage = true")
    assert command(manager, "user.update", key, {"first_name": "Theirs again"}).status == 200
    forgetful.click("[data-save]")
    expect(forgetful.locator("[data-error]")).to_contain_text("The record changed again while you decided")
    expect(forgetful.locator("[data-value=theirs]")).to_have_text("Theirs again")
    expect(forgetful.locator("[data-typed]")).to_have_value("Typed")
    assert forgetful.evaluate("window.samePage")
    forgetful.keyboard.press("t")
    forgetful.click("[data-save]")
    forgetful.wait_for_url(f"**/user/{key}/change/")
    assert state(manager, key)["first_name"] == "Theirs again"


def test_comment_leaves_a_typed_decision_on_the_page(forgetful: Any, manager: Any) -> None:
    key = person(manager)
    opened(forgetful, conflict(manager, key, {"first_name": "Mine"}, {"first_name": "Theirs"}))
    forgetful.fill("[data-typed]", "Typed")
    forgetful.fill("#comment", "Look at this")
    forgetful.get_by_role("button", name="Add comment").click()
    expect(forgetful.locator(".entry-text")).to_have_text("Look at this")
    expect(forgetful.locator("#comment")).to_have_value("")
    expect(forgetful.locator("[data-typed]")).to_have_value("Typed")


# As an older Firefox: it reports nothing after the person has chosen to stay.
WITHOUT_NAVIGATION = "Object.defineProperty(globalThis, 'navigation', { value: undefined })"


@pytest.mark.parametrize("lacking", ["", WITHOUT_NAVIGATION], ids=["current", "older"])
def test_person_who_stays_for_another_typed_text_can_go_on(forgetful: Any, manager: Any, lacking: str) -> None:
    forgetful.add_init_script(lacking)
    key = person(manager)
    opened(forgetful, conflict(manager, key, {"first_name": "Mine"}, {"first_name": "Theirs"}))
    forgetful.fill("[data-typed]", "Typed")
    forgetful.fill("#comment", "Half a sentence")
    with forgetful.expect_event("dialog") as asked:
        forgetful.on("dialog", lambda dialog: dialog.dismiss())
        forgetful.click("[data-save]", no_wait_after=True)
    assert asked.value.type == "beforeunload"
    expect(forgetful.locator("form[inert]")).to_have_count(0)
    expect(forgetful.locator(".toast")).to_have_text("Saved. Other text on this page is not saved yet.")
    expect(forgetful.locator("#comment")).to_have_value("Half a sentence")
    assert state(manager, key)["first_name"] == "Typed"
    forgetful.get_by_role("button", name="Add comment").click()
    expect(forgetful.locator(".entry-text").first).to_have_text("Half a sentence")


def test_person_who_leaves_despite_another_typed_text_gets_the_next_page(forgetful: Any, manager: Any) -> None:
    forgetful.add_init_script(WITHOUT_NAVIGATION)
    key = person(manager)
    opened(forgetful, conflict(manager, key, {"first_name": "Mine"}, {"first_name": "Theirs"}))
    forgetful.fill("[data-typed]", "Typed")
    forgetful.fill("#comment", "Half a sentence")
    forgetful.on("dialog", lambda dialog: dialog.accept())
    forgetful.click("[data-save]", no_wait_after=True)
    forgetful.wait_for_url(f"**/user/{key}/change/")
    assert state(manager, key)["first_name"] == "Typed"


def test_form_can_be_used_again_when_the_next_page_does_not_open(forgetful: Any, manager: Any) -> None:
    forgetful.add_init_script(WITHOUT_NAVIGATION)
    forgetful.clock.install()
    key = person(manager)
    opened(forgetful, conflict(manager, key, {"first_name": "Mine"}, {"first_name": "Theirs"}))
    forgetful.fill("[data-typed]", "Typed")
    forgetful.route(f"**/user/{key}/change/", lambda route: route.fulfill(status=204))  # the browser stays
    with forgetful.expect_response(f"**/user/{key}/change/"):
        forgetful.click("[data-save]", no_wait_after=True)
    assert forgetful.locator("form[inert]").count() == 1
    forgetful.clock.fast_forward(20_000)
    expect(forgetful.locator("form[inert]")).to_have_count(0)
    expect(forgetful.locator("[data-typed]")).to_have_value("Typed")
