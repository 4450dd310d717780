"""Each way of editing × each fault: typed text is saved exactly once, waits in the queue, or is still on the page.

A way opens a page and types. Each fault of `FAULTS` then meets its save. Afterwards the text must be on the page, or in
the queue; nothing of another person may have changed. At last the network works again, and saving once more must leave
everything on the server exactly once, also after the answers that were lost.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import expect

from tests import live
from tests.browser.fault_records import RECORDS
from tests.browser.fault_ways import HIDE, WAYS, Setup, Way
from tests.browser.second_person import SecondPerson
from tests.browser.test_admin import record
from tests.events.interleaving import LONG
from tests.fault_proxy import Fault, FaultProxy

pytestmark = [pytest.mark.browser, pytest.mark.services]

POST = r"/(change|sync|add|delete|restore|act|bulk|comment|acknowledge|replay|skip|erase)/$"

# A request ends when the test says so, instead of after 20 seconds.
TIMEOUTS = """
AbortSignal.timeout = () => {
  const controller = new AbortController();
  addEventListener("give-up", () => controller.abort(new DOMException("too late", "TimeoutError")), { once: true });
  return controller.signal;
};
"""
# A browser that forbids storage, and lacks what older ones lack.
BARE = """
for (const [owner, name] of [[Window.prototype, "indexedDB"], [window, "indexedDB"], [window, "BroadcastChannel"],
  [Navigator.prototype, "locks"], [Navigator.prototype, "serviceWorker"], [window, "caches"]]) delete owner[name];
Object.defineProperty(window, "localStorage", { get() { throw new DOMException("denied", "SecurityError"); } });
"""
LOCKLESS = BARE.replace('[Window.prototype, "indexedDB"], [window, "indexedDB"], ', "")
BROWSERS = {"usual": "", "bare": BARE, "lockless": LOCKLESS}


# -- faults -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FaultKind:
    """How a save fails. `begin` sets the fault; `give_up` ends the wait for an answer that never comes."""

    name: str
    begin: Callable[[FaultProxy, Any], Fault | None]
    give_up: bool = False


def answered(name: str, **answer: Any) -> FaultKind:
    return FaultKind(name, lambda proxy, _page: proxy.answer(POST, "POST", **answer))


def without_cookie(name: str) -> Callable[[FaultProxy, Any], None]:
    return lambda _proxy, page: page.context.clear_cookies(name=name)


FAULTS = (
    FaultKind("dropped", lambda proxy, _page: proxy.drop(POST, "POST")),
    FaultKind("half-open", lambda proxy, _page: proxy.half_open(POST, "POST"), give_up=True),
    answered("portal"),
    answered("empty JSON", body=b"{}", content_type="application/json"),
    answered("text", body=b"OK", content_type="text/plain"),
    answered("firewall", status=403),
    answered("too large", status=413),
    answered("too many", status=429),
    answered("gateway", status=502),
    FaultKind("outdated token", without_cookie("csrftoken")),
    FaultKind("signed out", without_cookie("sessionid")),
    FaultKind("answer lost", lambda proxy, _page: proxy.drop(POST, "POST", forward=True)),
    FaultKind("cut", lambda proxy, _page: proxy.cut(POST, "POST")),
)
# Ways that send their form by the same script as the others, so that together they meet each fault at least twice.
TURNS = ("silence", "window", "erase", "replay", "skip", "alert", "acknowledge")
FEW = tuple(kind for kind in FAULTS if kind.name in ("answer lost", "portal", "gateway"))


# -- the pages --------------------------------------------------------------------------------------------------------


@pytest.fixture
def set_up(new_page: Callable[..., Any], stack: live.Stack, proxy: FaultProxy) -> Iterator[Callable[[str, str], Setup]]:
    """Returns a function that opens a person's browser, which reaches the server through the proxy."""
    contexts = []

    def make(role: str, lacking: str) -> Setup:
        page = new_page(role, at="", base_url=proxy.url)
        contexts.append(page.context)
        page.add_init_script(TIMEOUTS + BROWSERS[lacking])
        if lacking != "usual":
            proxy.block_upgrades()
            page.route("**/admin/js/theme.js", lambda route: route.fulfill(body=""))  # Django's, which needs storage
        return Setup(stack, proxy, page, new_page("admin", at=""))

    yield make
    stack.query(HIDE)
    for context in contexts:
        context.close()  # before the proxy stops


@contextmanager
def failing(setup: Setup, kind: FaultKind) -> Iterator[None]:
    """Lets saves fail; afterwards the network works, and the session is back."""
    cookies = setup.page.context.cookies()
    fault = kind.begin(setup.proxy, setup.page)
    yield
    if fault is not None:
        setup.proxy.heal(fault)
    setup.page.context.add_cookies(cookies)


# The browser tests these at each frame; `expect` looks less often, which takes a third of the time of all.
HAS_TOAST = "() => document.querySelector('.toast')"
EMPTY = "() => document.querySelector('[data-queued]').hidden"
AT_VERSION = "(version) => document.querySelector('[name=base_version]').value === version"


def press(setup: Setup, kind: FaultKind, button: str) -> None:
    """Presses a button and waits until the page says what became of it."""
    page = setup.page
    page.evaluate("document.querySelector('[data-toasts]').replaceChildren()")
    if kind.give_up:
        with page.expect_request(re.compile(POST)):
            page.click(button)
        page.evaluate("dispatchEvent(new Event('give-up'))")
    else:
        page.click(button)
    page.wait_for_function(HAS_TOAST)
    expect(page.locator(".toast").first, kind.name).to_be_visible()


def save_slowly(setup: Setup, way: Way) -> None:
    """Presses the button twice while the answer is delayed."""
    slow = setup.proxy.hold(POST, "POST")
    setup.page.click(way.save)
    slow.wait()
    setup.page.locator(way.save).dispatch_event("click")
    setup.proxy.heal(slow)
    assert slow.hits == 1


def reconnect(setup: Setup) -> None:
    """Lets the page notice that the network works."""
    with setup.page.expect_response("**/offline/person/"):
        setup.page.evaluate("dispatchEvent(new Event('give-up')); dispatchEvent(new Event('online'))")


def faults_of(name: str, lacking: str) -> list[FaultKind]:
    """The faults that a way meets: all, or of the ways in `TURNS` a third each and the lost answer, except in long."""
    kinds = FAULTS if lacking == "usual" else FEW
    if LONG or name not in TURNS:
        return list(kinds)
    mine = kinds[TURNS.index(name) % 3 :: 3]
    return [kind for kind in kinds if kind in mine or kind.name == "answer lost"]


@pytest.mark.parametrize("lacking", ["usual", "bare"])
@pytest.mark.parametrize("name", WAYS)
def test_text_of_a_page_survives_each_fault_and_is_saved_once(
    set_up: Callable[[str, str], Setup], name: str, lacking: str
) -> None:
    way, text = WAYS[name], f"t{uuid.uuid4().hex[:10]}"
    setup = set_up(way.role, lacking)
    way.open(setup, text)
    address = setup.page.url
    setup.page.evaluate("window.samePage = true")
    for kind in faults_of(name, lacking):
        with failing(setup, kind):
            press(setup, kind, way.save)
            for selector, value in way.fields(text).items():
                expect(setup.page.locator(selector), kind.name).to_have_value(value)
            assert (setup.page.url, setup.page.evaluate("window.samePage")) == (address, True), kind.name
            assert way.saved(setup, text) <= 1, kind.name
        reconnect(setup)
    save_slowly(setup, way)
    expect(setup.page.locator(way.done).first).to_be_visible()
    assert way.saved(setup, text) == 1


# -- records, whose saves are queued ----------------------------------------------------------------------------------


@pytest.mark.parametrize("lacking", ["usual", "lockless", "bare"])
@pytest.mark.parametrize("name", RECORDS)
def test_text_of_a_record_survives_each_fault_and_is_saved_once(
    set_up: Callable[[str, str], Setup], stack: live.Stack, name: str, lacking: str
) -> None:
    """Another person saves before each attempt. A browser without a queue saves again at the next attempt."""
    way = RECORDS[name]
    setup, other = set_up(way.role, lacking), SecondPerson(stack, "manager")
    setup.key = way.create(setup)
    record(setup.page, setup.key, way.category)
    expect(setup.page.locator("[data-record][data-ready] form[data-ready]")).to_be_visible()
    setup.page.evaluate("window.samePage = true")
    version, theirs, queues = 1, way.stored(setup)[1], lacking != "bare"
    chip = setup.page.locator("[data-queued]")
    for number, kind in enumerate(FAULTS if lacking == "usual" else FEW):
        text = f"{number} {kind.name}"
        if way.theirs:
            theirs, version = f"theirs {number}", version + 1
            other.save(f"{way.category}.update", setup.key, way.theirs(theirs))
        way.type(setup, text)
        with failing(setup, kind):
            press(setup, kind, "[data-save]")
            assert setup.page.evaluate("window.samePage"), kind.name
            if queues and kind.name not in ("too large", "outdated token"):
                expect(chip, kind.name).to_have_text("1 waiting")
        reconnect(setup)
        if queues and kind.name != "too large":
            version += 1
            setup.page.wait_for_function(EMPTY)
            expect(chip, kind.name).to_be_hidden()
            assert way.stored(setup) == (text, theirs, version), kind.name
            setup.page.wait_for_function(AT_VERSION, arg=str(version))
        assert way.stored(setup)[1] == theirs, kind.name
    way.type(setup, "last")
    setup.page.click("[data-save]")
    expect(setup.page.locator(".toast.success", has_text="Saved as version").last).to_be_visible()
    assert way.stored(setup)[:2] == ("last", theirs)
    assert setup.sql("select count(*) from conflicts where key = %s", setup.key) == 0
    if lacking == "usual":
        assert way.stored(setup)[2] == version + 1
