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
from tests.browser.second_person import SecondPerson
from tests.browser.test_admin import command, new_user, record
from tests.fault_proxy import Fault, FaultProxy

pytestmark = [pytest.mark.browser, pytest.mark.services]

POST = r"/(change|sync|add|delete|restore|act|bulk|comment)/$"

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
FEW = tuple(kind for kind in FAULTS if kind.name in ("answer lost", "portal", "gateway"))


# -- ways of editing --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Way:
    """A page with something typed.

    open     opens the page and types `text`
    fields   where the text stays: selector -> value
    save     presses its button
    saved    how often the text is on the server
    done     what the page shows once a save was answered
    """

    open: Callable[[Scene, str], None]
    fields: Callable[[str], dict[str, str]]
    save: str
    saved: Callable[[Scene, str], int]
    done: str = ".toast.success, .toast.info"
    role: str = "agent"


@dataclass
class Scene:
    stack: live.Stack
    proxy: FaultProxy
    page: Any
    admin: Any
    key: str = ""
    other: str = ""

    def sql(self, statement: str, *parameters: Any) -> Any:
        ((value,),) = self.stack.query(statement, *parameters)
        return value

    def events(self, stream: str, kind: str) -> int:
        number: int = self.sql("select count(*) from events_event where stream = %s and type = %s", stream, kind)
        return number


def fill(scene: Scene, values: dict[str, str]) -> None:
    for selector, value in values.items():
        scene.page.fill(selector, value)


def add_user(scene: Scene, text: str) -> None:
    scene.page.goto("/admin/backoffice/user/add/")
    fill(scene, {"[name=email]": f"{text}@example.org", "[name=reason]": text})


def delete_user(scene: Scene, text: str) -> None:
    scene.key = new_user(scene.admin)
    scene.page.goto(f"/admin/backoffice/user/{scene.key}/delete/")
    fill(scene, {"[name=reason]": text})


def roll_back(scene: Scene, text: str) -> None:
    scene.key = new_user(scene.admin, first_name="Ada")
    command(scene.admin, "user.update", scene.key, {"first_name": "Augusta"})
    scene.page.goto(f"/admin/backoffice/user/{scene.key}/history/1/restore/")
    fill(scene, {"[name=reason]": text})


def conflict_page(scene: Scene) -> None:
    """Opens a conflict between two changes of one field."""
    scene.key = new_user(scene.admin, first_name="Ada")
    command(scene.admin, "user.update", scene.key, {"first_name": "Theirs"}, base_version=1)
    token = next(cookie["value"] for cookie in scene.admin.context.cookies() if cookie["name"] == "csrftoken")
    mine = {"type": "user.update", "key": scene.key, "data": {"first_name": "Mine"}, "base_version": 1}
    answer = scene.admin.request.post(
        "/api/v1/commands/", data={"id": str(uuid.uuid4()), **mine}, headers={"X-CSRFToken": token}
    )
    assert answer.status == 409
    scene.other = answer.json()["conflict_id"]
    scene.page.goto(f"/admin/backoffice/conflict/{scene.other}/change/")
    expect(scene.page.locator("[data-place].at")).to_be_visible()


def resolve(scene: Scene, text: str) -> None:
    conflict_page(scene)
    fill(scene, {"[data-typed]": text, "[data-reason]": text})


def comment(scene: Scene, text: str) -> None:
    conflict_page(scene)
    fill(scene, {"#comment": text, "[data-typed]": text})


def discard_several(scene: Scene, text: str) -> None:
    conflict_page(scene)
    scene.page.goto("/admin/backoffice/conflict/")
    scene.page.check(f"input[name=id][value='{scene.other}']")
    fill(scene, {"#bulk [name=reason]": text})


def add_channel(scene: Scene, text: str) -> None:
    scene.page.goto("/admin/metrics/channel/add/")
    scene.page.select_option("#id_kind", "email")
    fill(scene, {"#id_name": text, "#id_recipients": f"{text}@example.org"})


def rename_login(scene: Scene, text: str) -> None:
    scene.page.goto(f"/admin/backoffice/staff/{scene.stack.staff['viewer'].pk}/change/")
    fill(scene, {"#id_first_name": text})


def change_rule(scene: Scene, text: str) -> None:
    """A record of a kind without a queue."""
    scene.key = f"r{uuid.uuid4().hex[:8]}"
    rule = {"title": "Load", "metric": "tls.days_left", "warn": 5, "clear": 4}
    command(scene.admin, "rule.create", scene.key, rule)
    record(scene.page, scene.key, "rule")
    expect(scene.page.locator("[data-record][data-ready] form[data-ready]")).to_be_visible()
    fill(scene, {"[name=title]": text, "[name=reason]": text})


WAYS = {
    "add": Way(
        add_user,
        lambda text: {"[name=email]": f"{text}@example.org", "[name=reason]": text},
        "[data-save]",
        lambda scene, text: scene.sql("select count(*) from users where email = %s", f"{text}@example.org"),
        role="manager",
    ),
    "delete": Way(
        delete_user,
        lambda text: {"[name=reason]": text},
        "[data-save]",
        lambda scene, _text: scene.events(f"user-{scene.key}", "user.deleted"),
        role="manager",
    ),
    "restore": Way(
        roll_back,
        lambda text: {"[name=reason]": text},
        "[data-save]",
        lambda scene, _text: scene.sql("select version - 2 from users where id = %s", scene.key),
    ),
    "conflict": Way(
        resolve,
        lambda text: {"[data-typed]": text, "[data-reason]": text},
        "[data-save]",
        lambda scene, text: scene.sql(
            "select (version - 2) * (first_name = %s)::int from users where id = %s", text, scene.key
        ),
        done=".toast.success, [data-error]",  # "already closed", by the request whose answer was lost
    ),
    "comment": Way(
        comment,
        lambda text: {"#comment": text, "[data-typed]": text},
        "button[value=comment]",
        lambda scene, _text: scene.events(f"conflict-{scene.other}", "conflict.commented"),
        done=".entry-text",
    ),
    "discard": Way(
        comment,
        lambda text: {"#comment": text, "[data-typed]": text},
        "button[value=dismiss]",
        lambda scene, _text: scene.events(f"conflict-{scene.other}", "conflict.dismissed"),
        done="button[value=reopen]",
    ),
    "bulk": Way(
        discard_several,
        lambda text: {"#bulk [name=reason]": text},
        "#bulk button[value=dismiss]",
        lambda scene, _text: scene.events(f"conflict-{scene.other}", "conflict.dismissed"),
        # The list is live: after the request whose answer was lost, nothing is left to select.
        done=".toast.success, .toast:has-text('Select at least one')",
    ),
    "channel": Way(
        add_channel,
        lambda text: {"#id_name": text, "#id_recipients": f"{text}@example.org"},
        "[name=_save]",
        lambda scene, text: scene.sql("select count(*) from metrics_channel where name = %s", text),
        done=".toast.success, .errornote",
        role="admin",
    ),
    "login": Way(
        rename_login,
        lambda text: {"#id_first_name": text},
        "[name=_save]",
        lambda scene, text: scene.sql("select count(*) from staff where first_name = %s", text),
        role="admin",
    ),
    "rule": Way(
        change_rule,
        lambda text: {"[name=title]": text},
        "[data-save]",
        lambda scene, _text: scene.events(f"rule-{scene.key}", "rule.updated"),
        role="admin",
    ),
}


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
    for kind in FAULTS if lacking == "usual" else FEW:
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


@dataclass(frozen=True)
class RecordWay:
    """A record with a form. `type` replaces the text; `theirs` is a change by another person elsewhere in it."""

    create: Callable[[Scene], str]
    type: Callable[[Scene, str], None]
    stored: Callable[[Scene], tuple[str, str, int]]
    category: str
    theirs: Callable[[str], dict[str, Any]] | None = None
    role: str = "agent"


def new_form(scene: Scene) -> str:
    key = str(uuid.uuid4())
    data = {"user_id": new_user(scene.admin), "title": "Survey", "fields": [{"id": "a", "type": "text", "label": "A"}]}
    command(scene.admin, "form.create", key, data)
    return key


def new_setting(scene: Scene) -> str:
    key = f"matrix.{uuid.uuid4().hex[:8]}"
    command(scene.admin, "setting.set", key, {"value": ""})
    return key


def type_question(scene: Scene, text: str) -> None:
    label = scene.page.get_by_label("Question", exact=True)
    if not label.is_visible():
        scene.page.locator(".opener").first.click()
    label.fill(text)


def stored(statement: str) -> Callable[[Scene], tuple[str, str, int]]:
    def read(scene: Scene) -> tuple[str, str, int]:
        ((mine, theirs, version),) = scene.stack.query(statement, scene.key)
        return mine, theirs, version

    return read


RECORDS = {
    "record": RecordWay(
        lambda scene: new_user(scene.admin, first_name="Ada", last_name=""),
        lambda scene, text: fill(scene, {"[name=first_name]": text}),
        stored("select first_name, last_name, version from users where id = %s"),
        "user",
        lambda text: {"last_name": text},
    ),
    "questions": RecordWay(
        new_form,
        type_question,
        stored("select fields->0->>'label', description, version from forms where id = %s"),
        "form",
        lambda text: {"description": text},
    ),
    "setting": RecordWay(
        new_setting,
        lambda scene, text: fill(scene, {"[name=value]": f'"{text}"', "[name=reason]": text}),
        stored("select value #>> '{}', '', version from settings where key = %s"),
        "setting",
        role="admin",
    ),
}


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
            expect(chip, kind.name).to_be_hidden()
            assert way.stored(scene) == (text, theirs, version), kind.name
            expect(scene.page.locator("[name=base_version]"), kind.name).to_have_value(str(version))
        assert way.stored(scene)[1] == theirs, kind.name
    way.type(scene, "last")
    scene.page.click("[data-save]")
    expect(scene.page.locator(".toast.success", has_text="Saved as version").last).to_be_visible()
    assert way.stored(scene)[:2] == ("last", theirs)
    assert scene.sql("select count(*) from conflicts where key = %s", scene.key) == 0
    if lacking == "usual":
        assert way.stored(scene)[2] == version + 1
