"""Ways of editing, for `test_fault_matrix`: pages with something typed, and what is on the server afterwards."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from playwright.sync_api import expect

from tests import live
from tests.browser.test_admin import command, new_user, record
from tests.fault_proxy import FaultProxy

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


def add_silence(scene: Scene, text: str) -> None:
    scene.page.goto("/admin/metrics/silence/add/")
    fill(scene, {"[name=title]": text, "[name=ends_at]": "2099-01-01T12:00"})


def change_window(scene: Scene, text: str) -> None:
    """A maintenance window, which repeats."""
    scene.key = str(uuid.uuid4())
    weekly = {"repeat": "weekly", "weekdays": [6], "from_time": "22:00", "to_time": "23:00", "zone": "Europe/Paris"}
    command(scene.admin, "silence.create", scene.key, {"title": "Window", **weekly})
    record(scene.page, scene.key, "silence")
    expect(scene.page.locator("[data-record][data-ready] form[data-ready]")).to_be_visible()
    fill(scene, {"[name=title]": text, "[name=reason]": text})


def erase_user(scene: Scene, text: str) -> None:
    scene.key = new_user(scene.admin)
    scene.page.goto(f"/admin/backoffice/user/{scene.key}/erase/")
    scene.page.check("[name=meant]")
    fill(scene, {"[name=reason]": text})


PARK = """
insert into events_parked (subscription, stream, position, error, attempts)
select 'relay', stream, position, 'ValueError: cannot be read', 1 from events_event where stream = %s
"""


def parked(scene: Scene) -> None:
    """Opens the page of a parked stream. The subscription has published its event, so nothing depends on it."""
    scene.key = new_user(scene.admin)
    stream = f"user-{scene.key}"
    scene.stack.query(PARK, stream)
    scene.page.goto(f"/admin/system/subscriptions/relay/parked/?stream={stream}")


def replay(scene: Scene, text: str) -> None:
    parked(scene)
    fill(scene, {f"{REPLAY} [name=reason]": text})


def skip(scene: Scene, text: str) -> None:
    parked(scene)
    fill(scene, {f"{SKIP} [name=reason]": text})


def decided(scene: Scene, kind: str) -> int:
    """Number of these decisions about the parked stream."""
    statement = "select count(*) from events_event where stream = 'subscription-relay' and type = %s and data->>%s = %s"
    number: int = scene.sql(statement, kind, "stream", f"user-{scene.key}")
    return number


REPLAY, SKIP = "form[action$='/replay/']", "form[action$='/skip/']"

# No sampler knows this metric, so the alert stays as it is.
RAISE = """
from backoffice import preconditions
from events import commands, types
from metrics.monitoring.alerting import judge, rules, windows

with preconditions.waived("all"):
    data = rules.CreateRule(title="Of the matrix", metric="browser.matrix", warn=80, clear=70)
    commands.dispatch(types.Command(id=types.new_id(), key="matrix", data=data))
windows.register(lambda metric, seconds, *_: [90] * (seconds // 5), lambda slot: {})
(subject,) = [one for one in judge.load(0)[0] if one.key == "matrix"]
judge.judge_one(subject, judge.present_slot(), [True] * 720)
"""
SHOW = "update metrics_alert set state = 'firing' where id = 'matrix' returning id"
HIDE = "update metrics_alert set state = 'quiet' where id = 'matrix'"  # from the other tests of this stack


TOLD = "select count(*) from events_event where stream = 'alert-matrix' and type = %s and data->>%s = %s"


def alert_page(scene: Scene, text: str) -> None:
    if not scene.stack.query(SHOW):
        scene.stack.manage("shell", "-c", RAISE)
    scene.page.goto("/admin/alerts/matrix/")
    fill(scene, {"#comment-text": text, "#ack-note": text})


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
    "silence": Way(
        add_silence,
        lambda text: {"[name=title]": text, "[name=ends_at]": "2099-01-01T12:00"},
        "[data-save]",
        lambda scene, text: scene.sql("select count(*) from metrics_silence where title = %s", text),
        role="manager",
    ),
    "window": Way(
        change_window,
        lambda text: {"[name=title]": text},
        "[data-save]",
        lambda scene, _text: scene.events(f"silence-{scene.key}", "silence.updated"),
        role="manager",
    ),
    "erase": Way(
        erase_user,
        lambda text: {"[name=reason]": text, "[name=meant]:checked": "on"},
        "[data-save]",
        lambda scene, _text: scene.events(f"user-{scene.key}", "user.erased"),
        role="dpo",
    ),
    "replay": Way(
        replay,
        lambda text: {f"{REPLAY} [name=reason]": text},
        f"{REPLAY} [data-save]",
        lambda scene, _text: decided(scene, "subscription.replayed"),
        role="admin",
    ),
    "skip": Way(
        skip,
        lambda text: {f"{SKIP} [name=reason]": text},
        f"{SKIP} [data-save]",
        lambda scene, _text: decided(scene, "subscription.skipped"),
        role="admin",
    ),
    "alert": Way(
        alert_page,
        lambda text: {"#comment-text": text, "#ack-note": text},
        "form[action$='/comment/'] button",
        lambda scene, text: scene.sql(TOLD, "alert.commented", "text", text),
        role="manager",
    ),
    "acknowledge": Way(
        alert_page,
        lambda text: {"#comment-text": text, "#ack-note": text},
        "form[action$='/acknowledge/'] .primary",
        lambda scene, text: scene.sql(TOLD, "alert.acknowledged", "note", text),
        role="manager",
    ),
}


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
