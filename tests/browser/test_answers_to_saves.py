"""A save whose answer is late or lost: the next one saves the text of the page, and no value that was replaced."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from playwright.sync_api import expect

from tests import live
from tests.browser.test_admin import command, new_user
from tests.browser.test_editing import opened
from tests.browser.test_offline import save, user

pytestmark = [pytest.mark.browser, pytest.mark.services]


def lost_save(page: Any, **fields: str) -> None:
    page.route("**/change/", lambda route: route.abort(), times=1)
    save(page, **fields)
    expect(page.locator("[data-save][aria-busy]")).to_have_count(0)


def test_change_that_is_undone_while_its_save_is_under_way_stays_undone(admin: Any, stack: live.Stack) -> None:
    key = new_user(admin, first_name="Ada", last_name="Base")
    opened(admin, key, "user")

    def undo(route: Any) -> None:
        answer = route.fetch(max_redirects=0)
        admin.fill("[name=first_name]", "Ada")
        route.fulfill(response=answer)

    admin.route("**/change/", undo, times=1)
    save(admin, first_name="Augusta")
    expect(admin.locator("[data-toasts]")).to_contain_text("Saved as version 2. What you typed since then")
    expect(admin.locator("[name=first_name]")).to_have_value("Ada")
    admin.click("[data-save]")
    expect(admin.locator(".toast", has_text="Saved as version 3")).to_be_visible()
    assert user(stack, key) == ("Ada", "Base", 3)


def test_corrected_value_is_saved_although_the_invalid_one_had_no_answer(admin: Any, stack: live.Stack) -> None:
    """The record's kind has no queue: the page sends the unanswered input first, because it may be saved."""
    key = f"r{uuid.uuid4().hex[:8]}"
    command(admin, "rule.create", key, {"title": "Load", "metric": "tls.days_left", "warn": 50, "clear": 40})
    opened(admin, key, "rule")
    lost_save(admin, warn="many")
    save(admin, warn="60")
    expect(admin.locator(".toast.success", has_text="Saved as version 2")).to_be_visible()
    assert stack.query("select warn from metrics_rule where id = %s", key) == [(60.0,)]


def test_invalid_value_without_an_answer_is_not_queued_after_it_was_undone(admin: Any) -> None:
    key = f"answers.{uuid.uuid4().hex[:8]}"
    command(admin, "setting.set", key, {"value": 1})
    opened(admin, key, "setting")
    lost_save(admin, value="{", reason="Typing error")
    expect(admin.locator(".field-value .complaint")).to_be_visible()
    save(admin, value="1")
    expect(admin.locator(".toast").last).to_contain_text("Nothing was changed.")
    expect(admin.locator("[data-queued]")).to_be_hidden()
