"""The pictures of the README, taken of a lived-in installation so that they never show what is not there.

They are kept in `docs/images` when UPDATE_IMAGES=1, else thrown away: what is tested is that they can be taken.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import live
from tests.browser.test_admin import PHONE, expect, live_now

pytestmark = [pytest.mark.browser, pytest.mark.services]

DESK = {"width": 1360, "height": 860}
IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"


@pytest.fixture
def picture(tmp_path: Path) -> Callable[[Any, str], None]:
    folder = IMAGES if os.environ.get("UPDATE_IMAGES") == "1" else tmp_path
    folder.mkdir(parents=True, exist_ok=True)

    def take(page: Any, name: str) -> None:
        live_now(page)
        page.screenshot(path=folder / f"{name}.png")
        assert (folder / f"{name}.png").stat().st_size > 10_000

    return take


@pytest.fixture
def lived_in(stack: live.Stack) -> tuple[str, str, int]:
    """Sample data; a user with a past, a form with submissions, and the event that changed that user last."""
    stack.env["DEMO_PASSWORD"] = live.PASSWORD
    stack.manage("seed_demo", "--users", "120", "--submissions", "1500")
    ((user,),) = stack.query(
        "select id::text from users where deleted_at is null and first_name <> '' and first_name ~ '^[A-Za-zÀ-ÿ]+$'"
        " order by version desc, created_at desc limit 1"
    )
    ((form,),) = stack.query("select form_id::text from submissions group by 1 order by count(*) desc limit 1")
    ((event,),) = stack.query("select max(position) from events_event where stream = %s", f"user-{user}")
    return user, form, event


def test_pictures_of_list_record_history_and_two_browsers(
    new_page: Callable[..., Any], picture: Callable[[Any, str], None], lived_in: tuple[str, str, int]
) -> None:
    user, form, event = lived_in
    place = f"/admin/backoffice/user/{user}"
    for theme in ("light", "dark"):
        page = new_page(role="manager", at="", viewport=DESK, color_scheme=theme)
        for name, address in (
            ("overview", "/admin/"),
            ("list", "/admin/backoffice/user/"),
            ("record", f"{place}/change/"),
            ("history", f"{place}/history/"),
            ("form", f"/admin/backoffice/form/{form}/change/"),
            ("event", f"/admin/events/storedevent/{event}/"),
            ("subscriptions", "/admin/system/subscriptions/"),
        ):
            page.goto(address)
            picture(page, f"{name}-{theme}")
    phone = new_page(role="agent", at="", viewport=PHONE, device_scale_factor=2, color_scheme="dark")
    for name, address in (("list", "/admin/backoffice/user/"), ("record", f"{place}/change/")):
        phone.goto(address)
        picture(phone, f"{name}-phone")
    one, other = (new_page(role=role, at="", viewport={"width": 900, "height": 760}) for role in ("agent", "manager"))
    for page in (one, other):
        page.goto(f"{place}/change/")
        live_now(page)
    one.fill("[name=last_name]", "Typed here")
    other.fill("[name=first_name]", "Camille")
    other.fill("[name=last_name]", "Changed there")
    other.click("[data-save]")
    expect(one.locator("[data-field=last_name] [data-theirs]")).to_be_visible()
    expect(one.locator("[name=first_name]")).to_have_value("Camille")
    picture(one, "two-browsers-one")
    picture(other, "two-browsers-other")
