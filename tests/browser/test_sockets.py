"""The page of live connections in a browser: it counts open pages and shows when it is outdated."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import live
from tests.browser.test_admin import PHONE, expect, live_now

pytestmark = [pytest.mark.browser, pytest.mark.services]
PAGE = "/admin/system/sockets/"


def test_page_counts_connections_and_shows_when_the_server_does_not_answer(
    new_page: Callable[..., Any], stack: live.Stack
) -> None:
    page = new_page(role="manager", at=PAGE, viewport={"width": 1360, "height": 860})
    other = new_page(role="admin", at="/admin/backoffice/user/")
    live_now(other)
    total = page.locator("[data-part=totals] .figure-value").first
    expect(total).to_have_text(re.compile("^[1-9]"), timeout=20_000)
    expect(page.locator("[data-part=processes] .station")).to_have_count(1)
    expect(page.locator("[data-part=relay]")).to_contain_text("Running", timeout=20_000)
    if folder := os.environ.get("PICTURES"):
        pictures(new_page, page, Path(folder))
    stack.kill_web()
    expect(page.locator("[data-poll-status]")).to_have_attribute("data-state", "stale", timeout=20_000)
    stack.start_web()
    expect(page.locator("[data-poll-status]")).to_have_attribute("data-state", "live", timeout=60_000)


def pictures(new_page: Callable[..., Any], page: Any, folder: Path) -> None:
    """Takes screenshots for a person to check: `PICTURES=/a/folder`."""
    page.screenshot(path=folder / "sockets-light.png", full_page=True)
    for name, options in (
        ("dark", {"color_scheme": "dark", "viewport": {"width": 1360, "height": 860}}),
        ("phone", {"viewport": PHONE, "locale": "fr"}),
    ):
        shown = new_page(role="manager", at=PAGE, **options)
        shown.screenshot(path=folder / f"sockets-{name}.png", full_page=True)
    keys = new_page(role="admin", at="", viewport={"width": 1360, "height": 860})
    for name, address in (("keys", "/admin/backoffice/apikey/"), ("list", "/admin/backoffice/user/")):
        keys.goto(address)
        keys.screenshot(path=folder / f"{name}.png")
