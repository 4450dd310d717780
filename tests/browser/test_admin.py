"""The admin pages in Chromium on the real stack. A script error or a policy violation fails each of these tests."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest

from tests import live

pytestmark = [pytest.mark.browser, pytest.mark.services]

PHONE = {"width": 390, "height": 844}
DESK = {"width": 1360, "height": 860}
MANAGER = "(manager|Grace Lindqvist)"  # the sample data gives the login a name


def expect(subject: Any) -> Any:
    from playwright.sync_api import expect as playwright_expect

    return playwright_expect(subject)


def command(page: Any, kind: str, key: Any, data: dict[str, Any], **more: Any) -> None:
    """Sends a command as the person who is signed in on the page, as another window of theirs would."""
    token = next(cookie["value"] for cookie in page.context.cookies() if cookie["name"] == "csrftoken")
    body = {"id": str(uuid.uuid4()), "type": kind, "key": str(key), "data": data, **more}
    answer = page.request.post("/api/v1/commands/", data=body, headers={"X-CSRFToken": token})
    assert answer.ok, answer.text()


def new_user(page: Any, **fields: Any) -> str:
    key = str(uuid.uuid4())
    command(page, "user.create", key, {"email": f"{key}@example.org", "last_name": key[:8], **fields})
    return key


def record(page: Any, key: str, category: str = "user") -> None:
    app = "metrics" if category in ("rule", "silence") else "backoffice"
    page.goto(f"/admin/{app}/{category}/{key}/change/")


def live_now(page: Any) -> None:
    expect(page.locator("[data-live]")).to_have_attribute("data-state", "live")


# -- live -----------------------------------------------------------------------------------------------------------


def test_edit_by_one_person_appears_in_list_and_record_of_another(manager: Any, agent: Any, new_page: Any) -> None:
    key = new_user(manager, first_name="Ada")
    watcher = new_page(role="viewer", at="", reduced_motion="no-preference")
    watcher.goto("/admin/backoffice/user/")
    row = watcher.locator(f'tr[data-id="{key}"]')
    record(agent, key)
    live_now(watcher)
    live_now(agent)
    record(manager, key)
    manager.fill("[name=first_name]", "Augusta")
    manager.fill("[name=reason]", "As she signs")
    manager.click("[data-save]")
    expect(row.locator(".name")).to_contain_text("Augusta")
    expect(agent.locator("[name=first_name]")).to_have_value("Augusta")
    expect(agent.locator("[data-meanwhile]")).to_contain_text("manager changed first name. “As she signs”")
    expect(agent.locator(".page-title h1")).to_contain_text("Augusta")
    expect(agent.locator("[data-aside]")).to_contain_text("As she signs")


def test_new_records_wait_behind_a_button_and_deleted_rows_turn_grey(manager: Any, agent: Any) -> None:
    gone = new_user(manager, first_name="Goes")
    agent.goto("/admin/backoffice/user/")
    live_now(agent)
    first = agent.locator("table.records tbody tr").first
    expect(first).to_have_attribute("data-id", gone)
    keys = [new_user(manager, first_name="Comes") for _ in range(3)]
    button = agent.locator("[data-news-show]")
    expect(button).to_have_text("3 new: show")
    expect(first).to_have_attribute("data-id", gone)
    command(manager, "user.delete", gone, {})
    expect(agent.locator(f'tr[data-id="{gone}"]')).to_have_class(re.compile("gone"))
    button.click()
    expect(first).to_have_attribute("data-id", keys[-1])
    expect(button).to_be_hidden()


def test_new_records_that_the_filter_leaves_out_are_not_announced(manager: Any, agent: Any) -> None:
    agent.goto("/admin/backoffice/user/?plan=enterprise")
    live_now(agent)
    new_user(manager, plan="free")
    new_user(manager, plan="enterprise")
    expect(agent.locator("[data-news-show]")).to_have_text("1 new: show")


def test_update_keeps_typing_and_shows_both_sides(manager: Any, agent: Any) -> None:
    key = new_user(manager, first_name="Ada", last_name="L")
    record(agent, key)
    live_now(agent)
    agent.fill("[name=last_name]", "Mine")
    command(manager, "user.update", key, {"first_name": "Augusta", "last_name": "Theirs"})
    note = agent.locator('[data-field="last_name"] [data-theirs]')
    expect(note).to_contain_text("manager changed this too: Theirs")
    expect(agent.locator("[name=first_name]")).to_have_value("Augusta")
    expect(agent.locator("[name=last_name]")).to_have_value("Mine")
    note.get_by_role("button", name="Keep mine").click()
    agent.click("[data-save]")
    expect(agent.locator(".toast")).to_contain_text("Saved as version 3")
    expect(agent.locator("[name=last_name]")).to_have_value("Mine")


def test_questions_by_two_people_merge_while_both_type(manager: Any, agent: Any, stack: live.Stack) -> None:
    fields = [{"id": name, "type": "text", "label": f"Question {name}"} for name in "ab"]
    key = str(uuid.uuid4())
    given = {"user_id": new_user(manager), "title": "Survey", "description": "one\ntwo\nthree", "fields": fields}
    command(manager, "form.create", key, given)
    record(agent, key, "form")
    live_now(agent)
    agent.fill("[name=description]", "one\ntwo\nthree, mine")
    agent.locator(".opener").nth(1).click()
    typing = agent.locator(".question-body input").first
    typing.fill("Min")
    theirs = [{**fields[0], "label": "Theirs"}, fields[1]]
    command(manager, "form.update", key, {"fields": theirs, "description": "one, theirs\ntwo\nthree"})
    expect(agent.locator(".opener").first).to_contain_text("Theirs")
    expect(typing).to_be_focused()
    agent.keyboard.type("e")
    expect(agent.locator("[name=description]")).to_have_value("one, theirs\ntwo\nthree, mine")
    assert agent.locator("[data-theirs]:visible").count() == 0
    agent.click("[data-save]")
    expect(agent.locator(".toast")).to_contain_text("Saved as version 3.")
    ((labels, description),) = stack.query(
        "select jsonb_path_query_array(fields, '$[*].label'), description from forms where id = %s", key
    )
    assert (labels, description) == (["Theirs", "Mine"], "one, theirs\ntwo\nthree, mine")


def test_stale_save_shows_three_sides_and_loses_no_input(manager: Any, new_page: Any, stack: live.Stack) -> None:
    key = new_user(manager, first_name="Ada", last_name="L")
    page = new_page(role="agent", at="", java_script_enabled=False)  # this page got no notification
    record(page, key)
    command(manager, "user.update", key, {"last_name": "Theirs"}, reason="On the phone")
    page.fill("[name=first_name]", "Augusta")
    page.fill("[name=last_name]", "Mine")
    page.click("[data-save]")
    clash = page.locator(".settle")
    for words in ("L", "Theirs", "Mine", "manager", "On the phone"):
        expect(clash).to_contain_text(words)
    page.check('[data-choice][value="mine"]')
    page.click("[data-save]")
    assert stack.query("select first_name, last_name from users where id = %s", key) == [("Augusta", "Mine")]


def test_first_invalid_field_has_the_focus(manager: Any) -> None:
    key = new_user(manager)
    record(manager, key)
    manager.select_option("[name=plan]", "premium")
    manager.click("[data-save]")
    expect(manager.locator(".reason .complaint")).to_be_visible()
    expect(manager.locator("[name=reason]")).to_be_focused()


def test_long_texts_are_truncated_in_latest_changes_and_history(manager: Any) -> None:
    """Untruncated, the longest description made the record's page sixty screens high."""
    owner, key = new_user(manager), str(uuid.uuid4())
    command(manager, "form.create", key, {"user_id": owner, "title": "Long", "description": "first"})
    for word in ("one", "two"):
        command(manager, "form.update", key, {"description": f"{word} " * 4_500})
    for address, screens in (("change", 3), ("history", 4)):
        manager.goto(f"/admin/backoffice/form/{key}/{address}/")
        expect(manager.locator(".line-values").first).to_be_visible()
        assert manager.evaluate("document.documentElement.scrollHeight / innerHeight") < screens, address


def test_event_browser_shows_the_type_beside_long_data(manager: Any) -> None:
    owner, key, reason = new_user(manager), str(uuid.uuid4()), "because of a letter of the company " * 4
    command(manager, "form.create", key, {"user_id": owner, "title": "A long title of a form"}, reason=reason)
    manager.goto(f"/admin/events/storedevent/?stream=form-{key}")
    name = manager.locator(".records .name")
    expect(name).to_have_text("form.created")
    assert name.evaluate("name => name.scrollWidth <= name.clientWidth"), "the whole type can be read"
    manager.set_viewport_size(PHONE)
    assert name.evaluate("name => name.scrollWidth <= name.clientWidth"), "on a phone, too"


def test_people_on_the_same_record_see_each_other(manager: Any, agent: Any) -> None:
    key = new_user(manager)
    record(agent, key)
    record(manager, key)
    expect(agent.locator("[data-here]")).to_contain_text(re.compile(f"^.?{MANAGER} is viewing"))
    manager.locator("[name=first_name]").focus()
    expect(agent.locator('[data-field="first_name"] .who-types')).to_have_text(re.compile(MANAGER))
    agent.goto("/admin/backoffice/user/")
    at_row = agent.locator(f'tr[data-id="{key}"] [data-at-row]')
    expect(at_row).to_contain_text(re.compile(f"{MANAGER} is editing"))
    manager.goto("/admin/backoffice/user/")
    expect(at_row).to_have_count(0, timeout=20_000)
    expect(agent.locator("[data-here]")).to_contain_text(re.compile(f"{MANAGER} is viewing"))
    manager.goto("/admin/")
    expect(agent.locator("[data-here]")).to_be_hidden(timeout=20_000)


def test_killed_server_is_shown_and_no_event_is_missed(manager: Any, agent: Any, stack: live.Stack) -> None:
    key = new_user(manager, first_name="Before")
    agent.goto("/admin/backoffice/user/")
    live_now(agent)
    stack.kill_web()
    expect(agent.locator("[data-live]")).to_have_attribute("data-state", "reconnecting")
    stack.start_web()
    command(manager, "user.update", key, {"first_name": "After"})
    expect(agent.locator(f'tr[data-id="{key}"] .name')).to_contain_text("After", timeout=60_000)
    live_now(agent)


# -- keyboard -------------------------------------------------------------------------------------------------------


def test_list_works_by_keyboard(manager: Any) -> None:
    keys = [new_user(manager) for _ in range(2)]
    manager.goto("/admin/backoffice/user/")
    manager.keyboard.press("j")
    manager.keyboard.press("j")
    expect(manager.locator("tr.at")).to_have_attribute("data-id", keys[0])
    manager.keyboard.press("k")
    manager.keyboard.press("Enter")
    manager.wait_for_url(f"**/user/{keys[1]}/change/")
    manager.fill("[name=first_name]", "Typed")
    manager.keyboard.press("Control+s")
    expect(manager.locator(".toast")).to_contain_text("Saved as version 2")
    manager.locator("body").click(position={"x": 2, "y": 2})
    manager.keyboard.press("g")
    manager.keyboard.press("f")
    manager.wait_for_url("**/backoffice/form/")
    manager.keyboard.press("/")
    expect(manager.locator("[data-find]")).to_be_focused()


def test_single_key_shortcuts_can_be_switched_off(manager: Any) -> None:
    new_user(manager)
    manager.goto("/admin/backoffice/user/")
    manager.keyboard.press("?")
    manager.uncheck("[data-keys-toggle]")
    manager.keyboard.press("Escape")
    manager.keyboard.press("j")
    assert manager.locator("tr.at").count() == 0
    manager.reload()
    manager.keyboard.press("?")
    expect(manager.locator("[data-help-dialog]")).to_be_hidden()


def test_command_bar_finds_records_and_pages(manager: Any) -> None:
    key = new_user(manager, first_name="Zebedee", last_name="Quirk")
    manager.goto("/admin/")
    manager.keyboard.press("Control+k")
    manager.keyboard.type("zebedee quirk")
    expect(manager.locator("[data-search-results] a.at")).to_contain_text("Zebedee Quirk")
    manager.keyboard.press("Enter")
    manager.wait_for_url(f"**/user/{key}/change/")
    manager.keyboard.press("Control+k")
    manager.locator("[data-search-dialog] input").fill("subm")
    expect(manager.locator("[data-search-results] a.at")).to_contain_text("Submissions")


# -- the questions of a form ----------------------------------------------------------------------------------------


def test_questions_are_added_moved_and_removed_by_keyboard(manager: Any, stack: live.Stack) -> None:
    owner, key = new_user(manager), str(uuid.uuid4())
    fields = [{"id": name, "type": "text", "label": f"Question {name}", "x-keep": 1} for name in "abc"]
    command(manager, "form.create", key, {"user_id": owner, "title": "Survey", "fields": fields})
    record(manager, key, "form")
    grips = manager.locator(".grip")
    grips.nth(2).focus()
    manager.keyboard.press("ArrowUp")
    expect(grips.nth(1)).to_be_focused()
    manager.get_by_role("button", name="Remove Question a").click()
    manager.get_by_role("button", name="Add a question").click()
    manager.keyboard.type("How old are you?")
    manager.get_by_label("Type").select_option("integer")
    manager.click("[data-save]")
    expect(manager.locator(".toast")).to_contain_text("Saved as version 2")
    ((stored,),) = stack.query("select fields from forms where id = %s", key)
    assert [field["label"] for field in stored] == ["Question c", "Question b", "How old are you?"]
    assert stored[0]["x-keep"] == 1
    assert stored[2]["type"] == "integer"


def test_questions_are_saved_as_json_without_javascript(manager: Any, new_page: Any, stack: live.Stack) -> None:
    owner, key = new_user(manager), str(uuid.uuid4())
    command(manager, "form.create", key, {"user_id": owner, "title": "Survey"})
    page = new_page(role="manager", at="", java_script_enabled=False)
    record(page, key, "form")
    page.fill("[name=fields]", '[{"id": "a", "type": "text", "label": "A"}]')
    page.click("[data-save]")
    expect(page.locator(".toast")).to_contain_text("Saved as version 2")
    assert stack.query("select fields from forms where id = %s", key) == [
        ([{"id": "a", "type": "text", "label": "A"}],)
    ]


# -- the look -------------------------------------------------------------------------------------------------------


def every_page(page: Any) -> list[str]:
    owner, form, submission = new_user(page), str(uuid.uuid4()), str(uuid.uuid4())
    fields = [{"id": "q", "type": "text", "label": "A question"}]
    command(page, "form.create", form, {"user_id": owner, "title": "Survey", "fields": fields})
    command(page, "submission.receive", submission, {"form_id": form, "answers": {"q": "An answer"}})
    command(page, "user.update", owner, {"first_name": "Changed"})
    root = "/admin/backoffice"
    keys = {"user": owner, "form": form, "submission": submission}
    pages = ["/admin/", "/admin/search/?q=a", "/admin/events/storedevent/", "/admin/password_change/", f"{root}/staff/"]
    pages += [
        f"{root}/staff/add/",
        f"{root}/user/add/",
        f"{root}/form/add/",
        f"{root}/setting/add/",
        f"{root}/setting/",
    ]
    for category, key in keys.items():
        pages += [f"{root}/{category}/"]
        pages += [f"{root}/{category}/{key}/{view}/" for view in ("change", "history", "delete", "history/1")]
    system = ("subscriptions", "subscriptions/relay", "head", "rebuilds")
    pages += [f"/admin/system/{name}/" for name in system]
    return [*pages, f"{root}/user/{owner}/compare/", f"{root}/user/{owner}/history/1/restore/"]


@pytest.mark.parametrize(
    "options",
    [{"java_script_enabled": False}, {"color_scheme": "dark", "locale": "fr"}],
    ids=["without scripts", "in the dark, in French"],
)
def test_every_page_obeys_the_security_policy_and_fits_its_screen(
    new_page: Any, stack: live.Stack, options: Any
) -> None:
    """Each page is loaded once, then checked at desktop and phone size."""
    page = new_page(role="admin", at="", **options)
    failed = []
    page.on("response", lambda answer: failed.append(answer.url) if answer.status >= 400 else None)
    for address in every_page(page):
        page.goto(address)
        assert page.locator("h1").count() == 1, address
        for screen in (PHONE, DESK):
            page.set_viewport_size(screen)
            wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, f"{address} is {wide} px wider than a screen of {screen['width']}"
    assert not failed


def test_phone_has_the_navigation_at_the_bottom(new_page: Any, stack: live.Stack) -> None:
    page = new_page(role="agent", at="", viewport=PHONE, has_touch=True)
    new_user(new_page(role="manager", at=""))
    page.goto("/admin/")
    page.locator(".side").get_by_role("link", name="Users").tap()
    page.wait_for_url("**/backoffice/user/")
    box = page.locator(".side").bounding_box()
    assert box["y"] + box["height"] == PHONE["height"]
    page.locator("table.records tbody tr a").first.tap()
    page.wait_for_url("**/change/")
    expect(page.locator("[data-save]")).to_be_in_viewport()


def test_theme_is_kept_and_never_flashes(new_page: Any, stack: live.Stack) -> None:
    page = new_page(role="agent", color_scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.click(".theme-toggle")
    dark = page.evaluate(ground)
    assert light != dark
    page.goto("/admin/backoffice/user/", wait_until="commit")
    page.wait_for_selector("body", state="attached")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.wait_for_load_state()
    assert page.evaluate(ground) == dark


@pytest.mark.parametrize(("wish", "breathes"), [("reduce", False), ("no-preference", True)])
def test_reduced_motion_is_respected(new_page: Any, stack: live.Stack, wish: str, breathes: bool) -> None:
    page = new_page(role="agent", at="", reduced_motion=wish)
    page.goto("/admin/backoffice/user/")
    live_now(page)
    duration = "parseFloat(getComputedStyle(document.querySelector('.live-dot')).animationDuration)"
    assert (page.evaluate(duration) > 0.001) is breathes


def test_language_is_switched_and_kept(new_page: Any, stack: live.Stack) -> None:
    page = new_page(role="agent", at="/admin/backoffice/user/?plan=free")
    page.get_by_role("button", name="FR").click()
    expect(page.locator("html")).to_have_attribute("lang", "fr")
    assert page.url.endswith("?plan=free")
    expect(page.locator("h1")).to_have_text("Utilisateurs")
    live_now(page)
    expect(page.locator("[data-live-text]")).to_have_text("En direct")
