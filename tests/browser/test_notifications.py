"""The pages of notifications in a browser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.metrics.notify import receivers

pytestmark = pytest.mark.browser


def test_administrator_adds_a_channel_tests_it_and_finds_the_message_in_the_log(new_page: Callable[..., Any]) -> None:
    with receivers.http() as receiver:
        page = new_page("admin", "/admin/metrics/channel/add/")
        page.fill("#id_name", "Pager of the night shift")
        page.select_option("#id_kind", "webhook")
        page.fill("#id_url", f"{receiver.url}/path-7")
        page.click("input[name=_save]")
        assert page.inner_text("pre").startswith("whsec_")
        page.get_by_role("link", name="Continue").click()
        assert page.input_value("#id_url") == ""
        page.get_by_role("button", name="Send a test message").click()
        page.get_by_text("The test message reached “Pager of the night shift”").wait_for()
        assert receiver.arrived.get(timeout=30).json["type"] == "test"
        page.goto("/admin/metrics/delivery/")
        page.get_by_role("link", name="Delivered", exact=True).click()
        row = page.locator("#result_list tbody tr", has_text="Pager of the night shift")
        assert "HTTP 200" in row.inner_text()
        assert "path-7" not in page.content()
