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
from tests.browser.fault_ways import HIDE, RECORDS, WAYS, Scene, Way
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
class Kind:
    """How a save fails. `begin` sets the fault; `give_up` ends the wait for an answer that never comes."""

    name: str
    begin: Callable[[FaultProxy, Any], Fault | None]
    give_up: bool = False


def answered(name: str, **answer: Any) -> Kind:
    return Kind(name, lambda proxy, _page: proxy.answer(POST, "POST", **answer))


def without_cookie(name: str) -> Callable[[FaultProxy, Any], None]:
    return lambda _proxy, page: page.context.clear_cookies(name=name)


FAULTS = (
    Kind("dropped", lambda proxy, _page: proxy.drop(POST, "POST")),
    Kind("half-open", lambda proxy, _page: proxy.half_open(POST, "POST"), give_up=True),
    answered("portal"),
    answered("empty JSON", body=b"{}", content_type="application/json"),
    answered("text", body=b"OK", content_type="text/plain"),
    answered("firewall", status=403),
    answered("too large", status=413),
    answered("too many", status=429),
    answered("gateway", status=502),
    Kind("outdated token", without_cookie("csrftoken")),
    Kind("signed out", without_cookie("sessionid")),
    Kind("answer lost", lambda proxy, _page: proxy.drop(POST, "POST", forward=True)),
    Kind("cut", lambda proxy, _page: proxy.cut(POST, "POST")),
)
# Ways that send their form by the same script as the others, so that together they meet each fault at least twice.
TURNS = ("silence", "window", "erase", "replay", "skip", "alert", "acknowledge")
FEW = tuple(kind for kind in FAULTS if kind.name in ("answer lost", "portal", "gateway"))


# -- the scene --------------------------------------------------------------------------------------------------------


@pytest.fixture
def scene_of(
    new_page: Callable[..., Any], stack: live.Stack, proxy: FaultProxy
) -> Iterator[Callable[[str, str], Scene]]:
    """Returns a function that opens a person's browser, which reaches the server through the proxy."""
    contexts = []

    def make(role: str, lacking: str) -> Scene:
        page = new_page(role, at="", base_url=proxy.url)
        contexts.append(page.context)
        page.add_init_script(TIMEOUTS + BROWSERS[lacking])
        if lacking != "usual":
            proxy.block_upgrades()
            page.route("**/admin/js/theme.js", lambda route: route.fulfill(body=""))  # Django's, which needs storage
        return Scene(stack, proxy, page, new_page("admin", at=""))

    yield make
    stack.query(HIDE)
    for context in contexts:
        context.close()  # before the proxy stops


@contextmanager
def failing(scene: Scene, kind: Kind) -> Iterator[None]:
    """Lets saves fail; afterwards the network works, and the session is back."""
    cookies = scene.page.context.cookies()
    fault = kind.begin(scene.proxy, scene.page)
    yield
    if fault is not None:
        scene.proxy.heal(fault)
    scene.page.context.add_cookies(cookies)


# The browser tests these at each frame; `expect` looks less often, which takes a third of the time of all.
TOLD = "() => document.querySelector('.toast')"
EMPTY = "() => document.querySelector('[data-queued]').hidden"
AT_VERSION = "(version) => document.querySelector('[name=base_version]').value === version"


def press(scene: Scene, kind: Kind, button: str) -> None:
    """Presses a button and waits until the page says what became of it."""
    page = scene.page
    page.evaluate("document.querySelector('[data-toasts]').replaceChildren()")
    if kind.give_up:
        with page.expect_request(re.compile(POST)):
            page.click(button)
        page.evaluate("dispatchEvent(new Event('give-up'))")
    else:
        page.click(button)
    page.wait_for_function(TOLD)
    expect(page.locator(".toast").first, kind.name).to_be_visible()


def save_slowly(scene: Scene, way: Way) -> None:
    """Presses the button twice while the answer is delayed."""
    slow = scene.proxy.hold(POST, "POST")
    scene.page.click(way.save)
    slow.wait()
    scene.page.locator(way.save).dispatch_event("click")
    scene.proxy.heal(slow)
    assert slow.hits == 1


def back(scene: Scene) -> None:
    """Lets the page notice that the network works."""
    with scene.page.expect_response("**/offline/person/"):
        scene.page.evaluate("dispatchEvent(new Event('give-up')); dispatchEvent(new Event('online'))")


def faults_of(name: str, lacking: str) -> list[Kind]:
    """The faults that a way meets: all, or of the ways in `TURNS` a third each and the lost answer, except in long."""
    kinds = FAULTS if lacking == "usual" else FEW
    if LONG or name not in TURNS:
        return list(kinds)
    mine = kinds[TURNS.index(name) % 3 :: 3]
    return [kind for kind in kinds if kind in mine or kind.name == "answer lost"]


@pytest.mark.parametrize("lacking", ["usual", "bare"])
@pytest.mark.parametrize("name", WAYS)
def test_text_of_a_page_survives_each_fault_and_is_saved_once(
    scene_of: Callable[[str, str], Scene], name: str, lacking: str
) -> None:
    way, text = WAYS[name], f"t{uuid.uuid4().hex[:10]}"
    scene = scene_of(way.role, lacking)
    way.open(scene, text)
    address = scene.page.url
    scene.page.evaluate("window.samePage = true")
    for kind in faults_of(name, lacking):
        with failing(scene, kind):
            press(scene, kind, way.save)
            for selector, value in way.fields(text).items():
                expect(scene.page.locator(selector), kind.name).to_have_value(value)
            assert (scene.page.url, scene.page.evaluate("window.samePage")) == (address, True), kind.name
            assert way.saved(scene, text) <= 1, kind.name
        back(scene)
    save_slowly(scene, way)
    expect(scene.page.locator(way.done).first).to_be_visible()
    assert way.saved(scene, text) == 1


# -- records, whose saves are queued ----------------------------------------------------------------------------------


@pytest.mark.parametrize("lacking", ["usual", "lockless", "bare"])
@pytest.mark.parametrize("name", RECORDS)
def test_text_of_a_record_survives_each_fault_and_is_saved_once(
    scene_of: Callable[[str, str], Scene], stack: live.Stack, name: str, lacking: str
) -> None:
    """Another person saves before each attempt. A browser without a queue saves again at the next attempt."""
    way = RECORDS[name]
    scene, other = scene_of(way.role, lacking), SecondPerson(stack, "manager")
    scene.key = way.create(scene)
    record(scene.page, scene.key, way.category)
    expect(scene.page.locator("[data-record][data-ready] form[data-ready]")).to_be_visible()
    scene.page.evaluate("window.samePage = true")
    version, theirs, queues = 1, way.stored(scene)[1], lacking != "bare"
    chip = scene.page.locator("[data-queued]")
    for number, kind in enumerate(FAULTS if lacking == "usual" else FEW):
        text = f"{number} {kind.name}"
        if way.theirs:
            theirs, version = f"theirs {number}", version + 1
            other.save(f"{way.category}.update", scene.key, way.theirs(theirs))
        way.type(scene, text)
        with failing(scene, kind):
            press(scene, kind, "[data-save]")
            assert scene.page.evaluate("window.samePage"), kind.name
            if queues and kind.name not in ("too large", "outdated token"):
                expect(chip, kind.name).to_have_text("1 waiting")
        back(scene)
        if queues and kind.name != "too large":
            version += 1
            scene.page.wait_for_function(EMPTY)
            expect(chip, kind.name).to_be_hidden()
            assert way.stored(scene) == (text, theirs, version), kind.name
            scene.page.wait_for_function(AT_VERSION, arg=str(version))
        assert way.stored(scene)[1] == theirs, kind.name
    way.type(scene, "last")
    scene.page.click("[data-save]")
    expect(scene.page.locator(".toast.success", has_text="Saved as version").last).to_be_visible()
    assert way.stored(scene)[:2] == ("last", theirs)
    assert scene.sql("select count(*) from conflicts where key = %s", scene.key) == 0
    if lacking == "usual":
        assert way.stored(scene)[2] == version + 1
