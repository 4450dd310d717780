"""Alerts in a browser: count and announcement on every page, live lists, silences on a narrow screen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests import live
from tests.browser.test_admin import expect, live_now

pytestmark = [pytest.mark.browser, pytest.mark.services]

# The sampler of the stack judges the default rules by this machine, so they are disabled. It knows no metric of this
# name: only this script judges the rule.
JUDGE = """
from backoffice import preconditions
from events import commands, types
from metrics.monitoring.alerting import defaults, judge, models, rules, windows

def do(key, data):
    commands.dispatch(types.Command(id=types.new_id(), key=key, data=data))

defaults.seed()
for key in models.Rule.objects.filter(enabled=True, deleted_at=None).exclude(pk="load").values_list("pk", flat=True):
    do(key, rules.UpdateRule(enabled=False))
if not models.Rule.objects.filter(pk="load").exists():
    with preconditions.waived("all"):
        do("load", rules.CreateRule(title="High load", metric="browser.load", warn=80, critical=95, clear=70))
windows.register(lambda metric, seconds, *_: [{value}] * (seconds // 5), lambda slot: {{}})
(subject,) = [one for one in judge.load(0)[0] if one.key == "load"]
judge.judge_one(subject, max(judge.present_slot(), subject.state.slot + 1), [True] * 720)
"""


@pytest.fixture
def judged(stack: live.Stack) -> Iterator[Callable[[float], None]]:
    """Returns a function that judges a slot in another process, as if the whole window had the given value.

    Afterwards the alert is resolved.
    """

    def judge(value: float) -> None:
        stack.manage("shell", "-c", JUDGE.format(value=value))

    judge(10)
    yield judge
    judge(10)


def test_bell_counts_and_announces_a_critical_alert_on_every_page(
    new_page: Callable[..., Any], judged: Callable[[float], None]
) -> None:
    page = new_page(role="manager", at="/admin/backoffice/user/")
    live_now(page)
    critical = page.locator("[data-bell=critical]")
    expect(critical).to_be_hidden()
    judged(99)
    expect(critical).to_contain_text("1")
    expect(page.get_by_role("alert")).to_have_text("Critical alert: High load: 99")
    page.locator(".bell").click()
    page.get_by_role("link", name="High load").first.click()
    expect(page.locator("[data-part=state]")).to_contain_text("Critical")
    page.get_by_label("Note").fill("On it.")
    page.get_by_role("button", name="Acknowledge", exact=True).click()
    expect(page.locator("[data-part=timeline]")).to_contain_text("On it.")
    expect(page.locator("[data-part=state]")).to_contain_text("Acknowledged")
    expect(critical).to_be_hidden()


def test_open_alerts_refresh_themselves(new_page: Callable[..., Any], judged: Callable[[float], None]) -> None:
    page = new_page(role="viewer", at="/admin/alerts/")
    expect(page.locator("[data-part=open]")).to_contain_text("No open alerts.")
    judged(90)
    expect(page.locator("[data-alert=load]")).to_contain_text("Warning")
    assert page.locator("form[action*='/alerts/']").count() == 0
    judged(10)
    expect(page.locator("[data-part=open]")).to_contain_text("No open alerts.")
    expect(page.locator("[data-part=past]")).to_contain_text("High load")


def test_silence_is_added_on_a_narrow_screen(new_page: Callable[..., Any], judged: Callable[[float], None]) -> None:
    judged(90)
    page = new_page(role="manager", at="/admin/alerts/load/", viewport={"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.get_by_role("link", name="Silence", exact=True).click()
    assert page.get_by_label("Rules").input_value() == "load"
    page.get_by_label("Purpose").fill("Upgrade")
    page.get_by_label("Ends at").fill("2099-01-01T12:00")
    page.locator("[data-save]").click()
    page.wait_for_url("**/change/")
    page.goto("/admin/alerts/load/")
    expect(page.locator("[data-part=state]")).to_contain_text("Silenced: Upgrade")
