"""Messages of the server about a form that a script sent: shown in place, with everything typed."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from tests import live
from tests.browser.test_admin import new_user

pytestmark = [pytest.mark.browser, pytest.mark.services]


def test_messages_about_a_new_form_leave_its_questions_in_the_editor(manager: Any, stack: live.Stack) -> None:
    owner = new_user(manager)
    manager.goto("/admin/backoffice/form/add/")
    manager.fill("[name=title]", title := f"Survey of {owner}")
    manager.fill("[name=user_id]", "nobody@example.org")
    manager.get_by_role("button", name="Add a question").click()
    manager.keyboard.type("How are you?")
    manager.click("[data-save]")
    expect(manager.locator(".field-user_id .complaint")).to_contain_text("There is no such user.")
    expect(manager.locator("[name=user_id]")).to_be_focused()
    manager.locator(".opener").click()
    expect(manager.get_by_label("Question", exact=True)).to_have_value("How are you?")
    manager.fill("[name=user_id]", owner)
    manager.click("[data-save]")
    manager.wait_for_url("**/change/")
    ((fields,),) = stack.query("select fields from forms where title = %s", title)
    assert [field["label"] for field in fields] == ["How are you?"]


def test_messages_of_a_page_of_django_leave_its_text_there(new_page: Callable[..., Any], stack: live.Stack) -> None:
    page = new_page("admin", at="/admin/metrics/channel/add/")
    page.select_option("#id_kind", "email")
    page.fill("#id_name", "Night shift")
    page.fill("#id_recipients", "no address")
    page.click("[name=_save]")
    expect(page.locator(".errornote")).to_be_visible()
    expect(page.locator("#id_recipients")).to_be_focused()
    expect(page.locator("#id_name")).to_have_value("Night shift")
    expect(page.locator("#id_recipients")).to_have_value("no address")


def test_page_without_encryption_sends_its_forms_without_a_script(manager: Any, stack: live.Stack) -> None:
    manager.add_init_script("Object.defineProperty(globalThis, 'isSecureContext', { value: false })")
    manager.goto("/admin/backoffice/user/add/")
    manager.fill("[name=email]", address := f"{uuid.uuid4().hex}@example.org")
    with manager.expect_request(lambda request: request.method == "POST" and request.is_navigation_request()):
        manager.click("[data-save]")
    manager.wait_for_url("**/change/")
    assert stack.query("select count(*) from users where email = %s", address) == [(1,)]
