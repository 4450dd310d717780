"""Offline edits that meet a firewall which reads their text, or a device whose clock is wrong."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import expect

from tests import live
from tests.browser.test_admin import command, new_user, record
from tests.browser.test_offline import queued, ready, save, user
from tests.fault_proxy import FaultProxy

pytestmark = [pytest.mark.browser, pytest.mark.services]

FLUSH = "document.dispatchEvent(new Event('visibilitychange'))"  # instead of waiting for the next attempt


def test_edit_that_a_firewall_blocks_goes_to_the_tray_and_is_fixed_there(
    manager: Any, new_page: Callable[..., Any], stack: live.Stack, proxy: FaultProxy
) -> None:
    blocked, other = new_user(manager, first_name="Ada"), new_user(manager, first_name="Grace")
    page = new_page("agent", at="", base_url=proxy.url)
    firewall = proxy.answer("", "POST", status=403, body=b"<h1>Request blocked</h1>", reads=b"drop table")
    record(page, blocked)
    ready(page)
    page.context.set_offline(True)
    save(page, first_name="drop table")
    queued(page, "1 waiting")
    page.context.set_offline(False)
    record(page, other)
    ready(page)
    page.context.set_offline(True)
    save(page, first_name="Harmless")
    chip = page.locator("[data-queued]")
    page.context.set_offline(False)
    while chip.inner_text() != "1 edit rejected":
        with page.expect_response("**/sync/"):
            page.evaluate(FLUSH)
    page.evaluate(FLUSH)
    expect(page.locator("[name=base_version]")).to_have_value("2")
    expect(page.locator("[name=first_name]")).to_have_value("Harmless")
    assert (user(stack, blocked)[::2], user(stack, other)[::2]) == (("Ada", 1), ("Harmless", 2))
    assert firewall.hits >= 3

    page.click("[data-queued]")
    tray = page.locator("[data-section=refused] .edit")
    expect(tray).to_contain_text("Something between this browser and the server blocks this edit")
    expect(tray.locator("ins")).to_have_text("drop table")
    tray.get_by_role("button", name="Fix").click()
    tray.locator("form input").first.fill("table, dropped")
    tray.get_by_role("button", name="Send again").click()
    expect(page.locator("[data-queued]")).to_be_hidden()
    assert user(stack, blocked)[::2] == ("table, dropped", 2)


def test_wrong_clock_sends_no_edit_to_review(manager: Any, new_page: Callable[..., Any], stack: live.Stack) -> None:
    """The clock of the device is wrong when the edit is queued, and perhaps corrected before it is sent."""
    page = new_page("agent", at="")
    page.clock.install()
    for years, is_corrected in itertools.product([-56, -1, 5], [False, True]):
        key, case = new_user(manager, first_name="Ada", last_name="Base"), f"{years} years, {is_corrected=}"
        page.clock.set_system_time(datetime.now(UTC) + timedelta(days=365 * years))
        record(page, key)
        ready(page)
        page.context.set_offline(True)
        save(page, first_name="Augusta")
        queued(page, "1 waiting")
        command(manager, "user.update", key, {"last_name": "Theirs"})
        if is_corrected:
            page.clock.set_system_time(datetime.now(UTC))
        page.context.set_offline(False)
        expect(page.locator("[data-queued]"), case).to_be_hidden()
        assert user(stack, key) == ("Augusta", "Theirs", 3), case
