"""Editing through a network that fails: everything typed is saved, queued, listed as rejected or still on the page."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from tests import live
from tests.browser.test_admin import command, live_now, new_user, record
from tests.fault_proxy import Fault, FaultProxy

pytestmark = [pytest.mark.browser, pytest.mark.services]

CHANGE = "/change/$"
SYNC = "/sync/$"
PERSON = "/offline/person/$"
NO_STORE = "delete Window.prototype.indexedDB; delete window.indexedDB;"
FORBIDDEN_STORAGE = """
Object.defineProperty(window, "localStorage", { get() { throw new DOMException("denied", "SecurityError"); } });
"""


@pytest.fixture
def agent(new_page: Callable[..., Any], proxy: FaultProxy) -> Any:
    """A person whose browser reaches the server through the proxy."""
    return new_page("agent", at="", base_url=proxy.url)


def opened(page: Any, key: str) -> None:
    record(page, key)
    expect(page.locator("[data-record][data-ready] form[data-ready]")).to_be_visible()
    live_now(page)


def save(page: Any, **fields: str) -> None:
    for name, value in fields.items():
        page.fill(f"[name={name}]", value)
    page.click("[data-save]")


def type_on(page: Any, text: str) -> None:
    """Types at the end of the first name."""
    page.press("[name=first_name]", "End")
    page.keyboard.type(text)


def back(page: Any, proxy: FaultProxy) -> None:
    """Removes all faults and lets the page notice."""
    proxy.heal()
    page.evaluate("dispatchEvent(new Event('online'))")


def user(stack: live.Stack, key: str) -> tuple[str, str, int]:
    ((first, last, version),) = stack.query("select first_name, last_name, version from users where id = %s", key)
    return first, last, version


def conflicts(stack: live.Stack, key: str) -> int:
    ((number,),) = stack.query("select count(*) from conflicts where key = %s", key)
    return int(number)


# -- answers of something else ----------------------------------------------------------------------------------------

GATEWAY = [
    pytest.param({"status": status, "body": f"<h1>{status}</h1>".encode()}, id=str(status))
    for status in (200, 403, 404, 429, 502, 504)
]
LOST = [
    pytest.param(lambda proxy, path: proxy.drop(path, "POST"), id="dropped"),
    pytest.param(lambda proxy, path: proxy.drop(path, "POST", forward=True), id="answer-lost"),
    pytest.param(lambda proxy, path: proxy.cut(path, "POST"), id="cut"),
    pytest.param(
        lambda proxy, path: proxy.answer(path, "POST", body=b"{}", content_type="application/json"), id="empty-json"
    ),
]


@pytest.mark.parametrize("answer", GATEWAY)
def test_save_answered_by_a_gateway_is_queued_and_sent_later(
    manager: Any, agent: Any, proxy: FaultProxy, stack: live.Stack, answer: dict[str, Any]
) -> None:
    key = new_user(manager, first_name="Ada")
    opened(agent, key)
    fault = proxy.answer(f"{CHANGE}|{SYNC}", "POST", **answer)
    save(agent, first_name="Augusta")
    expect(agent.locator("[data-toasts]")).to_contain_text(f"answered instead of FormEase ({answer['status']})")
    expect(agent.locator("[name=first_name]")).to_have_value("Augusta")
    expect(agent.locator("[data-queued]")).to_have_text("1 waiting")
    assert user(stack, key)[0] == "Ada"
    assert fault.hits >= 1
    back(agent, proxy)
    expect(agent.locator("[data-queued]")).to_be_hidden()
    assert user(stack, key)[::2] == ("Augusta", 2)


@pytest.mark.parametrize("lose", LOST)
def test_save_without_a_usable_answer_is_saved_once(
    manager: Any, agent: Any, proxy: FaultProxy, stack: live.Stack, lose: Callable[[FaultProxy, str], Fault]
) -> None:
    key = new_user(manager, first_name="Ada")
    opened(agent, key)
    lose(proxy, f"{CHANGE}|{SYNC}")
    save(agent, first_name="Once")
    expect(agent.locator("[data-queued]")).to_have_text("1 waiting")
    expect(agent.locator("[name=first_name]")).to_have_value("Once")
    back(agent, proxy)
    expect(agent.locator("[data-queued]")).to_be_hidden()
    assert user(stack, key)[::2] == ("Once", 2)
    assert conflicts(stack, key) == 0


def test_portal_receives_a_record_once_and_never_replaces_the_page(
    manager: Any, agent: Any, proxy: FaultProxy, stack: live.Stack
) -> None:
    key = new_user(manager, first_name="Ada")
    opened(agent, key)
    portal = proxy.answer("")  # answers every request, as before its terms are accepted
    save(agent, first_name="Augusta")
    expect(agent.locator("[data-queued]")).to_have_text("1 waiting")
    expect(agent.locator("[data-network]")).to_contain_text("You are offline")
    expect(agent.locator("[name=first_name]")).to_have_value("Augusta")
    assert len([sent for sent in portal.requests if sent.startswith(b"POST") and b"Augusta" in sent]) == 1
    back(agent, proxy)
    expect(agent.locator("[data-queued]")).to_be_hidden()
    assert user(stack, key)[::2] == ("Augusta", 2)


def test_portal_that_answers_json_signs_nobody_else_in(manager: Any, agent: Any, proxy: FaultProxy) -> None:
    key = new_user(manager)
    opened(agent, key)
    portal = proxy.answer("", body=b"{}", content_type="application/json")
    agent.evaluate("dispatchEvent(new Event('online'))")
    portal.wait()
    expect(agent.locator("[data-network]")).to_contain_text("You are offline")


def test_too_large_edit_stays_on_the_page(manager: Any, agent: Any, proxy: FaultProxy, stack: live.Stack) -> None:
    key = new_user(manager, first_name="Ada")
    opened(agent, key)
    proxy.answer(CHANGE, "POST", status=413, body=b"<h1>413</h1>")
    save(agent, first_name="Augusta")
    expect(agent.locator(".toast.error")).to_contain_text("too large for the server")
    expect(agent.locator("[name=first_name]")).to_have_value("Augusta")
    expect(agent.locator("[data-queued]")).to_be_hidden()
    proxy.heal()
    agent.click("[data-save]")
    expect(agent.locator(".toast")).to_contain_text("Saved as version 2")
    assert user(stack, key)[::2] == ("Augusta", 2)


def test_outdated_token_or_missing_right_keeps_the_text(
    manager: Any, agent: Any, proxy: FaultProxy, stack: live.Stack
) -> None:
    key = new_user(manager, first_name="Ada")
    opened(agent, key)
    agent.context.clear_cookies(name="csrftoken")
    save(agent, first_name="Augusta")
    expect(agent.locator("[data-toasts]")).to_contain_text("It will be sent again shortly.")  # there is no earlier edit
    expect(agent.locator("[data-queued]")).to_be_hidden()
    expect(agent.locator("[name=first_name]")).to_have_value("Augusta")
    expect(agent.locator(".toast", has_text="Saved as version 2")).to_be_visible()
    assert user(stack, key)[::2] == ("Augusta", 2)

    command(manager, "user.delete", key, {})
    expect(agent.locator("[data-meanwhile]")).to_contain_text("deleted this record")
    save(agent, first_name="After the deletion")
    expect(agent.locator("[name=first_name]")).to_have_value("After the deletion")
    expect(agent.locator("form[data-edit]")).to_be_visible()


def test_invalid_value_is_reported_without_leaving_the_page(manager: Any, agent: Any, stack: live.Stack) -> None:
    taken = f"{uuid.uuid4()}@example.org"
    new_user(manager, email=taken)
    key = new_user(manager, first_name="Ada")
    opened(agent, key)
    agent.evaluate("window.samePage = true")
    save(agent, email=taken, first_name="Augusta", reason="By letter")
    expect(agent.locator(".field-email .complaint")).to_contain_text("Another user has this email address.")
    expect(agent.locator("[name=first_name]")).to_have_value("Augusta")
    expect(agent.locator("[name=email]")).to_be_focused()
    assert agent.evaluate("window.samePage")
    save(agent, email=f"new-{taken}")
    expect(agent.locator(".toast")).to_contain_text("Saved as version 2")
    assert user(stack, key)[::2] == ("Augusta", 2)


# -- a slow save ------------------------------------------------------------------------------------------------------


def test_text_typed_while_a_save_is_under_way_stays_and_is_saved_next(
    manager: Any, agent: Any, proxy: FaultProxy, stack: live.Stack
) -> None:
    key = new_user(manager, first_name="Ada", last_name="Base")
    opened(agent, key)
    slow = proxy.hold(CHANGE, "POST", times=1)
    save(agent, first_name="  Augusta")
    slow.wait()
    agent.fill("[name=last_name]", "Typed meanwhile")
    type_on(agent, " Ada")
    slow.release()
    expect(agent.locator("[data-toasts]")).to_contain_text("What you typed since then is not saved yet.")
    expect(agent.locator("[name=last_name]")).to_have_value("Typed meanwhile")
    expect(agent.locator("[name=first_name]")).to_have_value("  Augusta Ada")
    expect(agent.locator(".clashing")).to_have_count(0)
    assert user(stack, key) == ("Augusta", "Base", 2)
    agent.click("[data-save]")
    expect(agent.locator(".toast", has_text="Saved as version 3")).to_be_visible()
    assert user(stack, key) == ("Augusta Ada", "Typed meanwhile", 3)
    assert conflicts(stack, key) == 0


def test_change_by_another_during_a_slow_save_is_kept(
    manager: Any, agent: Any, proxy: FaultProxy, stack: live.Stack
) -> None:
    key = new_user(manager, first_name="Ada", last_name="Base")
    opened(agent, key)
    slow = proxy.hold(CHANGE, "POST", times=1)
    save(agent, first_name="Augusta")
    slow.wait()
    command(manager, "user.update", key, {"last_name": "Theirs"})
    type_on(agent, " Ada")
    slow.release()
    expect(agent.locator("[data-toasts]")).to_contain_text("What you typed since then is not saved yet.")
    expect(agent.locator("[name=last_name]")).to_have_value("Theirs")
    agent.click("[data-save]")
    expect(agent.locator(".toast", has_text="Saved as version 4")).to_be_visible()
    assert user(stack, key) == ("Augusta Ada", "Theirs", 4)
    assert conflicts(stack, key) == 0


def test_second_save_during_a_slow_first_one_files_no_conflict(
    manager: Any, agent: Any, proxy: FaultProxy, stack: live.Stack
) -> None:
    key = new_user(manager, first_name="Ada")
    opened(agent, key)
    slow = proxy.hold(CHANGE, "POST", times=1)
    save(agent, first_name="First")
    slow.wait()
    agent.fill("[name=first_name]", "Second")
    agent.keyboard.press("Control+s")
    agent.keyboard.press("Enter")
    slow.release()
    expect(agent.locator("[data-toasts]")).to_contain_text("What you typed since then is not saved yet.")
    expect(agent.locator("[name=first_name]")).to_have_value("Second")
    assert slow.hits == 1
    assert user(stack, key)[::2] == ("First", 2)
    agent.keyboard.press("Control+s")
    expect(agent.locator(".toast", has_text="Saved as version 3")).to_be_visible()
    assert user(stack, key)[::2] == ("Second", 3)
    assert conflicts(stack, key) == 0


# -- lost requests of live pages --------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["drop", "cut", "answer"])
def test_row_whose_request_was_lost_is_requested_again(manager: Any, agent: Any, proxy: FaultProxy, fault: str) -> None:
    key = new_user(manager, first_name="Ada")
    agent.goto("/admin/backoffice/user/")
    live_now(agent)
    lost = getattr(proxy, fault)(r"[?&]ids=")
    command(manager, "user.update", key, {"first_name": "Augusta"})
    lost.wait()
    back(agent, proxy)
    row = agent.locator(f'tr[data-id="{key}"]')
    expect(row.locator(".name")).to_contain_text("Augusta")
    expect(row).not_to_have_class(re.compile("gone"))


def test_record_that_missed_many_answers_is_current_once_the_connection_returns(
    manager: Any, agent: Any, proxy: FaultProxy
) -> None:
    key = new_user(manager, first_name="Ada")
    opened(agent, key)
    lost = proxy.drop(r"/live/\?since=")
    command(manager, "user.update", key, {"first_name": "Augusta"})
    lost.wait()
    for _attempt in range(6):  # more than were made before the keys were dropped
        with agent.expect_event("requestfailed", lambda request: "/live/?since=" in request.url):
            agent.evaluate("dispatchEvent(new Event('online'))")
    back(agent, proxy)
    expect(agent.locator("[name=first_name]")).to_have_value("Augusta")


# -- browsers without storage ------------------------------------------------------------------------------------------


def test_offline_save_without_indexeddb_keeps_the_text_on_the_page(
    manager: Any, agent: Any, proxy: FaultProxy, stack: live.Stack
) -> None:
    key = new_user(manager, first_name="Ada")
    agent.add_init_script(NO_STORE)
    opened(agent, key)
    proxy.drop("")
    save(agent, first_name="Augusta")
    expect(agent.locator(".toast.error")).to_contain_text("This browser does not store edits")
    expect(agent.locator("[data-network]")).to_contain_text("this browser does not store edits")
    agent.click("[data-save]")
    expect(agent.locator("[name=first_name]")).to_have_value("Augusta")
    back(agent, proxy)
    expect(agent.locator("[data-network]")).to_be_hidden()
    agent.click("[data-save]")
    expect(agent.locator(".toast", has_text="Saved as version 2")).to_be_visible()
    assert user(stack, key)[::2] == ("Augusta", 2)


def test_database_deleted_while_the_page_is_open_is_opened_again(manager: Any, agent: Any, stack: live.Stack) -> None:
    key = new_user(manager, first_name="Ada")
    opened(agent, key)
    agent.evaluate(
        "new Promise((done, failed) => Object.assign(indexedDB.deleteDatabase('formease'),"
        " { onsuccess: done, onerror: failed })).then(() => null)"
    )
    agent.context.set_offline(True)
    save(agent, first_name="Augusta")
    expect(agent.locator("[data-queued]")).to_have_text("1 waiting")
    agent.context.set_offline(False)
    expect(agent.locator("[data-queued]")).to_be_hidden()
    assert user(stack, key)[::2] == ("Augusta", 2)


def test_forbidden_local_storage_leaves_live_updates_and_saving(manager: Any, agent: Any, stack: live.Stack) -> None:
    key = new_user(manager, first_name="Ada", last_name="Base")
    agent.route("**/admin/js/theme.js", lambda route: route.fulfill(body=""))  # Django's, which does not expect this
    agent.add_init_script(FORBIDDEN_STORAGE)
    opened(agent, key)
    command(manager, "user.update", key, {"last_name": "Theirs"})
    expect(agent.locator("[name=last_name]")).to_have_value("Theirs")
    save(agent, first_name="Augusta")
    expect(agent.locator(".toast")).to_contain_text("Saved as version 3")
    assert user(stack, key) == ("Augusta", "Theirs", 3)


# -- no socket ---------------------------------------------------------------------------------------------------------


def test_pages_poll_and_say_so_where_sockets_are_blocked(manager: Any, agent: Any, proxy: FaultProxy) -> None:
    key = new_user(manager, first_name="Ada")
    blocked = proxy.block_upgrades()
    agent.clock.install()
    record(agent, key)
    expect(agent.locator("[data-record][data-ready] form[data-ready]")).to_be_visible()
    blocked.wait()
    command(manager, "user.update", key, {"first_name": "Augusta"})
    agent.clock.run_for(30_000)
    expect(agent.locator("[data-live]")).to_have_text("Updates every 15 s")
    expect(agent.locator("[name=first_name]")).to_have_value("Augusta")
    proxy.heal()
    agent.clock.run_for(30_000)
    live_now(agent)
    expect(agent.locator("[data-live]")).to_have_text("Live")


def test_list_is_covered_after_signing_out_elsewhere_without_a_socket(
    manager: Any, agent: Any, proxy: FaultProxy, stack: live.Stack
) -> None:
    key = new_user(manager, first_name="Ada")
    proxy.block_upgrades()
    agent.clock.install()
    agent.goto("/admin/backoffice/user/")
    expect(agent.locator(f'tr[data-id="{key}"]')).to_be_visible()
    elsewhere = agent.context.new_page()
    elsewhere.goto("/admin/")
    elsewhere.click("details.menu summary")
    elsewhere.click("#logout-form button")
    expect(elsewhere.locator("[data-signed-out-person]")).to_be_visible()
    agent.clock.run_for(30_000)
    expect(agent.locator("[data-cover]")).to_be_visible()
    expect(agent.locator(f'tr[data-id="{key}"]')).to_be_hidden()


# -- zoom --------------------------------------------------------------------------------------------------------------

COVERED = """() => {
  const field = document.activeElement;
  if (field === document.body) return ""; // after the last one
  const box = field.getBoundingClientRect();
  const [x, y] = [box.left + Math.min(box.width, 40) / 2, box.top + Math.min(box.height, 20) / 2];
  const top = document.elementFromPoint(x, y);
  return top === field || field.contains(top) ? "" : `${field.name || field.tagName} at ${y}: ${top?.className}`;
}"""


@pytest.mark.parametrize("size", [(320, 256), (640, 400), (390, 844), (1280, 600)])
def test_no_bar_covers_the_focused_field(manager: Any, agent: Any, size: tuple[int, int]) -> None:
    key = new_user(manager, first_name="Ada")
    agent.set_viewport_size({"width": size[0], "height": size[1]})
    opened(agent, key)
    for start, step in (("first_name", "Tab"), ("reason", "Shift+Tab")):
        agent.focus(f"[name={start}]")
        for _field in range(7):
            agent.keyboard.press(step)
            assert agent.evaluate(COVERED) == ""
    agent.goto(f"/admin/backoffice/user/{key}/history/")
    assert agent.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
