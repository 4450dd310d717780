"""Offline editing in Chromium: no network, a killed server, lost responses, a change of person."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import expect

from tests import conftest, live
from tests.browser.test_admin import command, live_now, new_user, record

pytestmark = [pytest.mark.browser, pytest.mark.services]

CONTROLLED = """new Promise((done) => {
  if (navigator.serviceWorker.controller) done();
  navigator.serviceWorker.addEventListener("controllerchange", done);
})"""
KEPT = """async (path) => {
  for (;;) {
    for (const name of await caches.keys()) {
      if (name.startsWith("formease-pages-") && (await (await caches.open(name)).match(path))) return;
    }
    await new Promise((again) => setTimeout(again, 20));
  }
}"""
NONE_INSTALLED = """async () => {
  while (await navigator.serviceWorker.getRegistration()) await new Promise((again) => setTimeout(again, 20));
}"""
BIG_COPY = """async (size) => {
  const name = (await caches.keys()).find((name) => name.startsWith("formease-pages-"));
  await (await caches.open(name)).put("/big", new Response("x".repeat(size)));
}"""
RETIRED = """async () => {
  while (await navigator.serviceWorker.getRegistration("/admin/")) await new Promise((again) => setTimeout(again, 20));
}"""


@pytest.fixture
def offline_user(new_page: Callable[..., Any], stack: live.Stack) -> Any:
    """Signs in a person whose pages a service worker controls."""
    return with_worker(new_page("agent", at="", service_workers="allow"))


def with_worker(page: Any) -> Any:
    page.goto("/admin/offline/")
    page.evaluate(CONTROLLED)
    return page


def opened(page: Any, key: str, category: str = "user") -> None:
    """Opens the record's page and waits until saves are queued and the page is cached."""
    record(page, key, category)
    ready(page)
    page.evaluate(KEPT, f"/admin/backoffice/{category}/{key}/change/")


def ready(page: Any) -> None:
    """Waits until all scripts run: saves are queued, live updates arrive."""
    expect(page.locator("[data-record][data-ready] form[data-ready]")).to_be_visible()
    live_now(page)


def offline(page: Any) -> None:
    page.context.set_offline(True)
    expect(page.locator("[data-network]")).to_contain_text("You are offline")


def save(page: Any, **fields: str) -> None:
    for name, value in fields.items():
        page.fill(f"[name={name}]", value)
    page.click("[data-save]")


def save_offline(page: Any, **fields: str) -> None:
    """Saves without a network; the edit waits in the queue."""
    page.context.set_offline(True)
    save(page, **fields)
    queued(page, "1 waiting")


def queued(page: Any, words: str) -> None:
    expect(page.locator("[data-queued]")).to_have_text(words)


def user(stack: live.Stack, key: str) -> tuple[str, str, int]:
    ((first, last, version),) = stack.query("select first_name, last_name, version from users where id = %s", key)
    return first, last, version


def test_offline_edits_survive_closing_the_tab_and_merge_with_an_edit_by_another(
    manager: Any, offline_user: Any, stack: live.Stack
) -> None:
    key = new_user(manager, first_name="Ada", last_name="Base")
    opened(offline_user, key)
    offline(offline_user)
    save(offline_user, first_name="One")
    queued(offline_user, "1 waiting")
    save(offline_user, first_name="Two")
    queued(offline_user, "2 waiting")
    command(manager, "user.update", key, {"last_name": "Foreign"})

    again = offline_user.context.new_page()
    offline_user.close()
    record(again, key)  # from the cache, with the queued edit on top
    expect(again.locator("[name=first_name]")).to_have_value("Two")
    expect(again.locator("[name=last_name]")).to_have_value("Base")
    expect(again.locator("[data-network]")).to_contain_text("You are offline")
    expect(again.locator("[data-mine]")).to_contain_text("Edits not sent yet: 2")
    again.goto("/admin/backoffice/user/")
    expect(again.locator("[data-not-kept]")).to_be_visible()
    expect(again.locator("[data-section=waiting] .edit")).to_have_count(2)
    expect(again.locator("[data-kept-records] a")).to_have_count(1)
    again.locator("[data-kept-records] a").click()
    expect(again.locator("[data-record][data-ready] form[data-ready]")).to_be_visible()

    again.context.set_offline(False)
    expect(again.locator("[data-queued]")).to_be_hidden()
    expect(again.locator("[data-network]")).to_be_hidden()
    expect(again.locator("[name=last_name]")).to_have_value("Foreign")
    assert user(stack, key) == ("Two", "Foreign", 4)


def test_saving_unchanged_form_offline_stays_on_the_page(manager: Any, offline_user: Any) -> None:
    """Offline the server cannot answer that nothing changed; another page would be an error page of the browser."""
    key = new_user(manager, first_name="Ada")
    opened(offline_user, key)
    offline(offline_user)
    save(offline_user, reason="typed already")
    expect(offline_user.locator("[data-toasts]")).to_contain_text("Nothing was changed.")
    expect(offline_user.locator("[name=reason]")).to_have_value("typed already")
    save(offline_user, first_name="Augusta")
    queued(offline_user, "1 waiting")


def test_two_tabs_send_each_edit_once_and_in_order_when_the_server_returns(
    manager: Any, new_page: Any, stack: live.Stack
) -> None:
    key, other = new_user(manager), new_user(manager)
    first = with_worker(new_page("agent", at="", service_workers="allow"))
    second = first.context.new_page()
    opened(first, key)
    opened(second, other)
    stack.kill_web()
    for name in ("A", "B", "C"):
        save(first, first_name=name)
        save(second, first_name=name)
        expect(first.locator("[data-mine]")).to_contain_text(f"Edits not sent yet: {'ABC'.index(name) + 1}")
        expect(second.locator("[data-mine]")).to_contain_text(f"Edits not sent yet: {'ABC'.index(name) + 1}")
    first.reload()
    expect(first.locator("[name=first_name]")).to_have_value("C")
    queued(first, "6 waiting")

    stack.env["OFFLINE"] = "0"  # the worker was unregistered meanwhile; queued edits are sent anyway
    try:
        stack.start_web()
        for page in (first, second):
            page.evaluate("dispatchEvent(new Event('online'))")
        for page in (first, second):
            expect(page.locator("[data-queued]")).to_be_hidden()
        first.evaluate("navigator.serviceWorker.getRegistration().then((worker) => worker.update())")
        for page in (first, second):
            page.goto("/livez")  # Chromium may delay the change of workers until the last page of the old one is closed
        first.evaluate(RETIRED)
        assert first.evaluate("caches.keys()") == []
        record(first, key)
        live_now(first)
        assert first.locator("[data-command]").count() == 0
    finally:
        del stack.env["OFFLINE"]
        stack.kill_web()
    assert [user(stack, each)[::2] for each in (key, other)] == [("C", 4), ("C", 4)]


def test_edit_with_lost_response_is_saved_once(new_page: Any, stack: live.Stack) -> None:
    page = new_page("manager", at="")
    key = new_user(page, first_name="Ada")
    lost: list[str] = []
    answers = threading.Event()

    def lose(route: Any) -> None:
        """Forwards the first request to the server and drops its response; drops later ones until `answers` is set."""
        if route.request.method == "POST" and route.request.url not in lost:
            lost.append(route.request.url)
            assert route.fetch(max_redirects=0).ok
            route.abort()
        elif route.request.method == "POST" and not answers.is_set():  # the page retries after a random pause
            route.abort()
        else:
            route.continue_()

    for address in ("**/change/", "**/sync/"):
        page.route(address, lose)
    record(page, key)
    expect(page.locator("[data-record][data-ready] form[data-ready]")).to_be_visible()
    save(page, first_name="  Once ")  # as the server normalises it, not as it was typed
    queued(page, "1 waiting")
    with page.expect_event("requestfailed", lambda request: request.url.endswith("/sync/")):
        page.goto("/admin/offline/")
    expect(page.locator("[data-section=waiting] .edit")).to_contain_text("the server did not answer")
    expect(page.get_by_role("button", name="Cancel this edit")).to_have_count(0)
    assert len(lost) == 2
    answers.set()
    page.evaluate("dispatchEvent(new Event('online'))")
    expect(page.locator("[data-section=done] .edit")).to_contain_text("Saved as version 2")
    assert user(stack, key)[::2] == ("Once", 2)


def test_rejected_edit_is_fixed_in_the_tray_and_blocks_its_own_record_only(
    manager: Any, new_page: Any, stack: live.Stack
) -> None:
    taken = f"{uuid.uuid4()}@example.org"
    new_user(manager, email=taken)
    key, other = new_user(manager, first_name="Ada"), new_user(manager)
    page = new_page("agent", at="")
    record(page, key)
    ready(page)
    page.context.set_offline(True)
    save(page, email=taken)
    expect(page.locator(".field.reason .complaint")).to_contain_text("Enter a reason: required for plan")
    save(page, reason="By letter")
    queued(page, "1 waiting")
    save(page, first_name="Behind it")
    queued(page, "2 waiting")
    page.context.set_offline(False)
    queued(page, "1 edit rejected")
    expect(page.locator("[data-mine]")).to_contain_text("Another user has this email address.")
    assert user(stack, key)[2] == 1

    record(page, other)
    expect(page.locator("[data-record][data-ready] form[data-ready]")).to_be_visible()
    save(page, first_name="Goes on")
    expect(page.locator(".toast")).to_contain_text("Saved as version 2")

    page.click("[data-queued]")
    tray = page.locator("[data-section=refused] .edit")
    expect(page.locator("[data-section=waiting] .edit")).to_contain_text("an earlier edit of this record was rejected")
    with page.expect_download() as download:
        page.click("[data-export]")
    exported = json.loads(download.value.path().read_text())
    assert [(each["state"], each["data"]) for each in exported] == [
        ("refused", {"email": taken}),
        ("waiting", {"first_name": "Behind it"}),
    ]
    tray.get_by_role("button", name="Fix").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Control+a")
    page.keyboard.type(f"new-{taken}")
    page.keyboard.press("Enter")
    expect(page.locator("[data-section=done] .edit")).to_have_count(2)
    expect(page.locator("[data-queued]")).to_be_hidden()
    assert user(stack, key)[::2] == ("Behind it", 3)


WITHOUT_REASON = """
() => new Promise((done) => {
  const request = indexedDB.open("formease", 1);
  request.onsuccess = () => {
    const store = request.result.transaction("edits", "readwrite").objectStore("edits");
    store.openCursor().onsuccess = ({ target }) => {
      if (!target.result) return;
      target.result.update({ ...target.result.value, reason: "" });
      request.result.close();
      done();
    };
  };
})
"""


def test_edit_without_required_reason_gets_one_in_the_tray(manager: Any, new_page: Any, stack: live.Stack) -> None:
    key = new_user(manager)
    page = new_page("agent", at="")
    record(page, key)
    ready(page)
    page.context.set_offline(True)
    save(page, email=f"{key}@new.example", reason="By letter")
    queued(page, "1 waiting")
    page.evaluate(WITHOUT_REASON)  # as a release without this rule would have queued it
    page.context.set_offline(False)
    queued(page, "1 edit rejected")
    assert user(stack, key)[2] == 1
    page.click("[data-queued]")
    tray = page.locator("[data-section=refused] .edit")
    expect(tray).to_contain_text("Enter a reason")
    tray.get_by_role("button", name="Fix").click()
    expect(tray.locator("form .complaint")).to_contain_text("Enter a reason")
    page.keyboard.type("By letter after all")  # the position of the cursor
    page.keyboard.press("Enter")
    expect(page.locator("[data-section=done] .edit")).to_have_count(1)
    assert user(stack, key)[2] == 2


def test_waiting_edits_can_be_changed_and_cancelled(manager: Any, new_page: Any, stack: live.Stack) -> None:
    key = new_user(manager, first_name="Ada", last_name="L")
    page = with_worker(new_page("agent", at="", service_workers="allow"))
    opened(page, key)
    offline(page)
    save(page, first_name="Wrong")
    queued(page, "1 waiting")
    save(page, last_name="Not wanted")
    queued(page, "2 waiting")
    page.click("[data-queued]")
    waiting = page.locator("[data-section=waiting] .edit")
    waiting.nth(1).get_by_role("button", name="Cancel this edit").click()
    expect(waiting).to_have_count(1)
    waiting.get_by_role("button", name="Edit", exact=True).click()
    page.locator(".edit-form input").first.fill("Right")
    page.get_by_role("button", name="Save edit").click()
    expect(waiting.locator("ins")).to_have_text("Right")
    page.context.set_offline(False)
    expect(page.locator("[data-section=done] .edit")).to_contain_text("Saved as version 2")
    assert user(stack, key) == ("Right", "L", 2)


def test_ended_session_is_shown_and_other_person_neither_sees_nor_sends_edits(
    manager: Any, offline_user: Any, stack: live.Stack
) -> None:
    key = new_user(manager, first_name="Ada")
    page = offline_user
    opened(page, key)
    page.context.clear_cookies(name="sessionid")
    save(page, first_name="Typed by the agent")
    expect(page.locator("[data-network]")).to_contain_text("Sign in to send the waiting edit")
    page.reload()
    expect(page.locator("#login-form")).to_be_visible()  # and this is not in the cached copy of the record
    page.context.set_offline(True)
    record(page, key)
    expect(page.locator("[name=first_name]")).to_have_value("Typed by the agent")
    page.context.set_offline(False)

    conftest.sign_in(page, "manager")
    assert page.evaluate("caches.keys()") == [name for name in page.evaluate("caches.keys()") if "shell" in name]
    page.goto("/admin/offline/")
    expect(page.locator("[data-queue-page][data-ready]")).to_be_visible()
    expect(page.locator("[data-none]")).to_be_visible()
    expect(page.locator("[data-queued]")).to_be_hidden()
    page.click("details.menu summary")
    page.click("#logout-form button")
    expect(page.locator("[data-signed-out-person][data-forgotten]")).to_be_visible()
    assert user(stack, key)[::2] == ("Ada", 1)

    conftest.sign_in(page, "agent")
    expect(page.locator(".toast")).to_contain_text("Saved as version 2")
    saved = manager.request.get(f"/api/v1/streams/user-{key}/?after=1").json()["items"]
    assert [(event["data"]["first_name"], event["actor"]) for event in saved] == [
        ("Typed by the agent", f"staff:{staff(stack, 'agent')}")
    ]


def staff(stack: live.Stack, name: str) -> int:
    ((found,),) = stack.query("select id from staff where username = %s", name)
    return int(found)


def test_sign_out_with_waiting_edits_asks_first_and_deletes_them(
    manager: Any, offline_user: Any, stack: live.Stack
) -> None:
    key = new_user(manager, first_name="Ada")
    page = offline_user
    opened(page, key)
    page.route("**/offline/person/", lambda route: route.abort())
    offline(page)
    save(page, first_name="Never sent")
    queued(page, "1 waiting")
    page.click("details.menu summary")
    page.click("#logout-form button")
    expect(page.locator(".toast.error")).to_contain_text("You cannot sign out while offline")
    page.context.set_offline(False)
    page.route("**/sync/", lambda route: route.abort())
    page.unroute("**/offline/person/")
    page.click("#logout-form button")
    dialog = page.locator("[data-leave-dialog]")
    expect(dialog).to_contain_text("1 offline edit has not been sent")
    dialog.get_by_role("button", name="Stay").click()
    queued(page, "1 waiting")
    page.click("details.menu summary")
    page.click("#logout-form button")
    dialog.get_by_role("button", name="Sign out").click()
    expect(page.locator("[data-signed-out-person][data-forgotten]")).to_be_visible()
    assert not [name for name in page.evaluate("caches.keys()") if "pages" in name]
    conftest.sign_in(page, "agent")
    page.goto("/admin/offline/")
    expect(page.locator("[data-queue-page][data-ready]")).to_be_visible()
    expect(page.locator("[data-none]")).to_be_visible()
    assert user(stack, key)[::2] == ("Ada", 1)


def test_conflict_of_offline_edit_is_shown_on_its_record_and_resolved_by_keyboard(
    manager: Any, new_page: Any, stack: live.Stack
) -> None:
    key = new_user(manager, first_name="Ada", last_name="Base")
    page = new_page("agent", at="")
    record(page, key)
    ready(page)
    page.context.set_offline(True)
    save(page, last_name="Mine")
    queued(page, "1 waiting")
    command(manager, "user.update", key, {"first_name": "Augusta", "last_name": "Theirs"})
    page.context.set_offline(False)
    notice = page.locator("[data-mine]")
    expect(notice).to_contain_text("Conflicts with a change by someone else")
    expect(page.locator("[name=last_name]")).to_have_value("Theirs")
    notice.get_by_role("link", name="Resolve conflict").press("Enter")
    expect(page.locator("[data-place].at")).to_be_visible()
    page.keyboard.press("m")
    page.keyboard.press("Control+s")
    page.wait_for_url(f"**/user/{key}/change/")
    assert user(stack, key) == ("Augusta", "Mine", 3)


# -- full storage, and old edits --------------------------------------------------------------------------------------


def quota(page: Any, size: int | None) -> None:
    """Limits this browser's storage in bytes; None removes the limit."""
    origin = page.evaluate("location.origin")
    told = {"origin": origin} if size is None else {"origin": origin, "quotaSize": size}
    page.context.new_cdp_session(page).send("Storage.overrideQuotaForOrigin", told)


def test_full_browser_storage_is_reported_and_typing_stays_on_the_page(
    manager: Any, new_page: Any, stack: live.Stack
) -> None:
    key = new_user(manager, first_name="Ada")
    page = new_page("agent", service_workers="allow")
    page.goto("/livez")
    quota(page, 1)
    record(page, key)
    ready(page)
    page.evaluate(NONE_INSTALLED)
    offline(page)
    save(page, first_name="Nowhere to keep it")
    expect(page.locator(".toast.error")).to_contain_text("your edit was not stored")
    expect(page.locator("[name=first_name]")).to_have_value("Nowhere to keep it")
    expect(page.locator("[data-queued]")).to_be_hidden()
    assert page.evaluate("caches.keys()") == []

    quota(page, None)
    page.click("[data-save]")
    queued(page, "1 waiting")
    page.context.set_offline(False)
    expect(page.locator("[data-queued]")).to_be_hidden()
    assert user(stack, key)[::2] == ("Nowhere to keep it", 2)


def test_uncontrolled_page_asks_the_worker_for_control(offline_user: Any) -> None:
    """Such a page exists after a reload that bypasses caches, or when it loaded while the worker took control."""
    with offline_user.expect_navigation():
        offline_user.context.new_cdp_session(offline_user).send("Page.reload", {"ignoreCache": True})
    offline_user.evaluate(CONTROLLED)


def test_edits_replace_kept_pages_and_leave_a_full_browser(manager: Any, new_page: Any, stack: live.Stack) -> None:
    key = new_user(manager, first_name="Ada")
    name = f"motto-{key[:8]}"
    page = new_page("admin", service_workers="allow")
    command(page, "setting.set", name, {"value": "short"})
    opened(with_worker(page), key)
    record(page, name, "setting")
    ready(page)
    kept = page.evaluate("navigator.storage.estimate().then(({ usage }) => usage)")  # shell and pages
    quota(page, kept + 1_150_000)  # one of the copy and the edit; not the edit once more to mark it as sent
    page.evaluate(BIG_COPY, 800_000)
    offline(page)
    long = [f"{number}{'x' * 99_000}" for number in range(6)]  # nearly as much as an event may contain
    save(page, value=json.dumps(long))
    queued(page, "1 waiting")
    assert not page.evaluate("caches.match('/big')")
    page.context.set_offline(False)
    expect(page.locator("[data-queued]")).to_be_hidden()
    expect(page.locator(".toast.info")).to_contain_text("Saved as version 2")
    page.goto("/admin/offline/")
    expect(page.locator("[data-none]")).to_be_visible()
    assert stack.query("select value from settings where key = %s", name) == [(long,)]


def test_edit_that_waited_too_long_needs_a_decision(manager: Any, new_page: Any, stack: live.Stack) -> None:
    key = new_user(manager, first_name="Ada")
    page = new_page("agent", at="")
    page.clock.install()
    record(page, key)
    ready(page)
    page.context.set_offline(True)
    save(page, first_name="A week ago")
    queued(page, "1 waiting")
    page.clock.set_system_time(datetime.now(UTC) + timedelta(days=7, hours=1))  # a week passes on this device
    page.context.set_offline(False)
    notice = page.locator("[data-mine]")
    expect(notice).to_contain_text("It waited for more than seven days")
    expect(page.locator("[name=first_name]")).to_have_value("Ada")
    assert user(stack, key)[::2] == ("Ada", 1)
    notice.get_by_role("link", name="Resolve conflict").press("Enter")
    page.get_by_role("button", name="Resolve and save").press("Enter")
    page.wait_for_url(f"**/user/{key}/change/")
    assert user(stack, key)[::2] == ("A week ago", 2)
