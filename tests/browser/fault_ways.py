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


@dataclass(frozen=True)
class Way:
    """One way of editing.

    open     opens the page and types `text`
    fields   where the text stays: selector -> value
    save     presses its button
    saved    how often the text is on the server
    done     what the page shows once a save was answered
    """

    open: Callable[[Setup, str], None]
    fields: Callable[[str], dict[str, str]]
    save: str
    saved: Callable[[Setup, str], int]
    done: str = ".toast.success, .toast.info"
    role: str = "agent"


@dataclass
class Setup:
    """A person's page behind a proxy, an administrator's page beside it, and the keys of the records in use.

    key    the edited record
    other  the conflict about it
    """

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


def fill(setup: Setup, values: dict[str, str]) -> None:
    for selector, value in values.items():
        setup.page.fill(selector, value)


def add_user(setup: Setup, text: str) -> None:
    setup.page.goto("/admin/backoffice/user/add/")
    fill(setup, {"[name=email]": f"{text}@example.org", "[name=reason]": text})


def delete_user(setup: Setup, text: str) -> None:
    setup.key = new_user(setup.admin)
    setup.page.goto(f"/admin/backoffice/user/{setup.key}/delete/")
    fill(setup, {"[name=reason]": text})


def roll_back(setup: Setup, text: str) -> None:
    setup.key = new_user(setup.admin, first_name="Ada")
    command(setup.admin, "user.update", setup.key, {"first_name": "Augusta"})
    setup.page.goto(f"/admin/backoffice/user/{setup.key}/history/1/restore/")
    fill(setup, {"[name=reason]": text})


def conflict_page(setup: Setup) -> None:
    """Opens a conflict between two changes of one field."""
    setup.key = new_user(setup.admin, first_name="Ada")
    command(setup.admin, "user.update", setup.key, {"first_name": "Theirs"}, base_version=1)
    token = next(cookie["value"] for cookie in setup.admin.context.cookies() if cookie["name"] == "csrftoken")
    mine = {"type": "user.update", "key": setup.key, "data": {"first_name": "Mine"}, "base_version": 1}
    answer = setup.admin.request.post(
        "/api/v1/commands/", data={"id": str(uuid.uuid4()), **mine}, headers={"X-CSRFToken": token}
    )
    assert answer.status == 409
    setup.other = answer.json()["conflict_id"]
    setup.page.goto(f"/admin/backoffice/conflict/{setup.other}/change/")
    expect(setup.page.locator("[data-place].at")).to_be_visible()


def resolve(setup: Setup, text: str) -> None:
    conflict_page(setup)
    fill(setup, {"[data-typed]": text, "[data-reason]": text})


def comment(setup: Setup, text: str) -> None:
    conflict_page(setup)
    fill(setup, {"#comment": text, "[data-typed]": text})


def discard_several(setup: Setup, text: str) -> None:
    conflict_page(setup)
    setup.page.goto("/admin/backoffice/conflict/")
    setup.page.check(f"input[name=id][value='{setup.other}']")
    fill(setup, {"#bulk [name=reason]": text})


def add_channel(setup: Setup, text: str) -> None:
    setup.page.goto("/admin/metrics/channel/add/")
    setup.page.select_option("#id_kind", "email")
    fill(setup, {"#id_name": text, "#id_recipients": f"{text}@example.org"})


def rename_login(setup: Setup, text: str) -> None:
    setup.page.goto(f"/admin/backoffice/staff/{setup.stack.staff['viewer'].pk}/change/")
    fill(setup, {"#id_first_name": text})


def change_rule(setup: Setup, text: str) -> None:
    """A record of a kind without a queue."""
    setup.key = f"r{uuid.uuid4().hex[:8]}"
    rule = {"title": "Load", "metric": "tls.days_left", "warn": 5, "clear": 4}
    command(setup.admin, "rule.create", setup.key, rule)
    record(setup.page, setup.key, "rule")
    expect(setup.page.locator("[data-record][data-ready] form[data-ready]")).to_be_visible()
    fill(setup, {"[name=title]": text, "[name=reason]": text})


def add_silence(setup: Setup, text: str) -> None:
    setup.page.goto("/admin/metrics/silence/add/")
    fill(setup, {"[name=title]": text, "[name=ends_at]": "2099-01-01T12:00"})


def change_window(setup: Setup, text: str) -> None:
    """A maintenance window, which repeats."""
    setup.key = str(uuid.uuid4())
    weekly = {"repeat": "weekly", "weekdays": [6], "from_time": "22:00", "to_time": "23:00", "zone": "Europe/Paris"}
    command(setup.admin, "silence.create", setup.key, {"title": "Window", **weekly})
    record(setup.page, setup.key, "silence")
    expect(setup.page.locator("[data-record][data-ready] form[data-ready]")).to_be_visible()
    fill(setup, {"[name=title]": text, "[name=reason]": text})


def erase_user(setup: Setup, text: str) -> None:
    setup.key = new_user(setup.admin)
    setup.page.goto(f"/admin/backoffice/user/{setup.key}/erase/")
    setup.page.check("[name=meant]")
    fill(setup, {"[name=reason]": text})


PARK = """
insert into events_parked (subscription, stream, position, error, attempts)
select 'relay', stream, position, 'ValueError: cannot be read', 1 from events_event where stream = %s
"""


def parked(setup: Setup) -> None:
    """Opens the page of a parked stream. The subscription has published its event, so nothing depends on it."""
    setup.key = new_user(setup.admin)
    stream = f"user-{setup.key}"
    setup.stack.query(PARK, stream)
    setup.page.goto(f"/admin/system/subscriptions/relay/parked/?stream={stream}")


def replay(setup: Setup, text: str) -> None:
    parked(setup)
    fill(setup, {f"{REPLAY} [name=reason]": text})


def skip(setup: Setup, text: str) -> None:
    parked(setup)
    fill(setup, {f"{SKIP} [name=reason]": text})


def count_decisions(setup: Setup, kind: str) -> int:
    """The number of events of this type about the parked stream."""
    statement = "select count(*) from events_event where stream = 'subscription-relay' and type = %s and data->>%s = %s"
    number: int = setup.sql(statement, kind, "stream", f"user-{setup.key}")
    return number


REPLAY, SKIP = "form[action$='/replay/']", "form[action$='/skip/']"

# No sampler has this metric, so no evaluator changes the alert.
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
# Other tests of this stack expect no alert that fires.
HIDE = "update metrics_alert set state = 'quiet' where id = 'matrix'"


COUNT_ALERT_EVENTS = "select count(*) from events_event where stream = 'alert-matrix' and type = %s and data->>%s = %s"


def alert_page(setup: Setup, text: str) -> None:
    if not setup.stack.query(SHOW):
        setup.stack.manage("shell", "-c", RAISE)
    setup.page.goto("/admin/alerts/matrix/")
    fill(setup, {"#comment-text": text, "#ack-note": text})


WAYS = {
    "add": Way(
        add_user,
        lambda text: {"[name=email]": f"{text}@example.org", "[name=reason]": text},
        "[data-save]",
        lambda setup, text: setup.sql("select count(*) from users where email = %s", f"{text}@example.org"),
        role="manager",
    ),
    "delete": Way(
        delete_user,
        lambda text: {"[name=reason]": text},
        "[data-save]",
        lambda setup, _text: setup.events(f"user-{setup.key}", "user.deleted"),
        role="manager",
    ),
    "restore": Way(
        roll_back,
        lambda text: {"[name=reason]": text},
        "[data-save]",
        lambda setup, _text: setup.sql("select version - 2 from users where id = %s", setup.key),
    ),
    "conflict": Way(
        resolve,
        lambda text: {"[data-typed]": text, "[data-reason]": text},
        "[data-save]",
        lambda setup, text: setup.sql(
            "select (version - 2) * (first_name = %s)::int from users where id = %s", text, setup.key
        ),
        done=".toast.success, [data-error]",  # "already closed", by the request whose answer was lost
    ),
    "comment": Way(
        comment,
        lambda text: {"#comment": text, "[data-typed]": text},
        "button[value=comment]",
        lambda setup, _text: setup.events(f"conflict-{setup.other}", "conflict.commented"),
        done=".entry-text",
    ),
    "discard": Way(
        comment,
        lambda text: {"#comment": text, "[data-typed]": text},
        "button[value=dismiss]",
        lambda setup, _text: setup.events(f"conflict-{setup.other}", "conflict.dismissed"),
        done="button[value=reopen]",
    ),
    "bulk": Way(
        discard_several,
        lambda text: {"#bulk [name=reason]": text},
        "#bulk button[value=dismiss]",
        lambda setup, _text: setup.events(f"conflict-{setup.other}", "conflict.dismissed"),
        # The list is live: after the request whose answer was lost, nothing is left to select.
        done=".toast.success, .toast:has-text('Select at least one')",
    ),
    "channel": Way(
        add_channel,
        lambda text: {"#id_name": text, "#id_recipients": f"{text}@example.org"},
        "[name=_save]",
        lambda setup, text: setup.sql("select count(*) from metrics_channel where name = %s", text),
        done=".toast.success, .errornote",
        role="admin",
    ),
    "login": Way(
        rename_login,
        lambda text: {"#id_first_name": text},
        "[name=_save]",
        lambda setup, text: setup.sql("select count(*) from staff where first_name = %s", text),
        role="admin",
    ),
    "rule": Way(
        change_rule,
        lambda text: {"[name=title]": text},
        "[data-save]",
        lambda setup, _text: setup.events(f"rule-{setup.key}", "rule.updated"),
        role="admin",
    ),
    "silence": Way(
        add_silence,
        lambda text: {"[name=title]": text, "[name=ends_at]": "2099-01-01T12:00"},
        "[data-save]",
        lambda setup, text: setup.sql("select count(*) from metrics_silence where title = %s", text),
        role="manager",
    ),
    "window": Way(
        change_window,
        lambda text: {"[name=title]": text},
        "[data-save]",
        lambda setup, _text: setup.events(f"silence-{setup.key}", "silence.updated"),
        role="manager",
    ),
    "erase": Way(
        erase_user,
        lambda text: {"[name=reason]": text, "[name=meant]:checked": "on"},
        "[data-save]",
        lambda setup, _text: setup.events(f"user-{setup.key}", "user.erased"),
        role="dpo",
    ),
    "replay": Way(
        replay,
        lambda text: {f"{REPLAY} [name=reason]": text},
        f"{REPLAY} [data-save]",
        lambda setup, _text: count_decisions(setup, "subscription.replayed"),
        role="admin",
    ),
    "skip": Way(
        skip,
        lambda text: {f"{SKIP} [name=reason]": text},
        f"{SKIP} [data-save]",
        lambda setup, _text: count_decisions(setup, "subscription.skipped"),
        role="admin",
    ),
    "alert": Way(
        alert_page,
        lambda text: {"#comment-text": text, "#ack-note": text},
        "form[action$='/comment/'] button",
        lambda setup, text: setup.sql(COUNT_ALERT_EVENTS, "alert.commented", "text", text),
        role="manager",
    ),
    "acknowledge": Way(
        alert_page,
        lambda text: {"#comment-text": text, "#ack-note": text},
        "form[action$='/acknowledge/'] .primary",
        lambda setup, text: setup.sql(COUNT_ALERT_EVENTS, "alert.acknowledged", "note", text),
        role="manager",
    ),
}
