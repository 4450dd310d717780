"""Screenshots for the README, taken from a realistic installation, so that they always match the product.

UPDATE_IMAGES=1 stores them in `docs/images`; otherwise the test only checks that they can be taken.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import live
from tests.browser.test_admin import DESK, PHONE, command, expect, live_now, new_user
from tests.metrics.dashboard import samples

pytestmark = [pytest.mark.browser, pytest.mark.services]

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"


@pytest.fixture
def picture(tmp_path: Path) -> Callable[[Any, str], None]:
    folder = IMAGES if os.environ.get("UPDATE_IMAGES") == "1" else tmp_path
    folder.mkdir(parents=True, exist_ok=True)

    def take(page: Any, name: str, online: bool = True) -> None:
        if online:
            live_now(page)
        page.screenshot(path=folder / f"{name}.png")
        assert (folder / f"{name}.png").stat().st_size > 10_000

    return take


@pytest.fixture(scope="module")
def lived_in(session_stack: live.Stack) -> tuple[str, str, int]:
    """Creates sample data; returns a user with a history, a form with submissions, and the user's last event."""
    stack = session_stack
    stack.env["DEMO_PASSWORD"] = live.PASSWORD
    stack.manage("seed_demo", "--users", "120", "--submissions", "1500")
    stack.manage("refresh_views", "--force")
    ((user,),) = stack.query(
        "select id::text from users where deleted_at is null and first_name <> '' and first_name ~ '^[A-Za-zÀ-ÿ]+$'"
        " order by version desc, created_at desc limit 1"
    )
    ((form,),) = stack.query("select form_id::text from submissions group by 1 order by count(*) desc limit 1")
    ((event,),) = stack.query("select max(position) from events_event where stream = %s", f"user-{user}")
    return user, form, event


def test_screenshots_of_list_record_history_and_two_browsers_are_taken(
    new_page: Callable[..., Any], picture: Callable[[Any, str], None], lived_in: tuple[str, str, int]
) -> None:
    user, form, event = lived_in
    place = f"/admin/backoffice/user/{user}"
    page = new_page(role="manager", at="", viewport=DESK)
    for name, address in (
        ("list", "/admin/backoffice/user/"),
        ("record", f"{place}/change/"),
        ("history", f"{place}/history/"),
        ("form", f"/admin/backoffice/form/{form}/change/"),
        ("event", f"/admin/events/storedevent/{event}/"),
        ("figures", "/admin/figures/?range=90d"),
        ("subscriptions", "/admin/system/subscriptions/"),
    ):
        page.goto(address)
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme=theme)
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


def test_screenshots_of_the_dashboard_are_taken(
    new_page: Callable[..., Any], picture: Callable[..., None], lived_in: tuple[str, str, int], stack: live.Stack
) -> None:
    stack.stop_process("subscriptions")  # the sampler: the pictures show the same values each time
    stack.query("delete from metrics_layout")
    stack.query("delete from metrics_sample")
    samples.store(stack.query, 740)
    page = new_page(role="manager", viewport={"width": 1360, "height": 1160}, color_scheme="light")
    expect(page.locator(".chart-canvas canvas").first).to_be_visible()
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        picture(page, f"dashboard-{theme}", online=False)
    page.emulate_media(color_scheme="light")
    page.get_by_role("button", name="Arrange").click()
    picture(page, "dashboard-arranging", online=False)
    phone = new_page(role="agent", viewport=PHONE, device_scale_factor=2, color_scheme="dark")
    expect(phone.locator("[data-kind=health]")).to_be_visible()
    picture(phone, "dashboard-phone", online=False)


def test_screenshots_of_waiting_edits_and_of_the_tray_are_taken(
    new_page: Callable[..., Any], picture: Callable[..., None], stack: live.Stack
) -> None:
    other = new_page(role="manager", at="")
    taken = new_user(other, email=f"{uuid.uuid4()}@example.org", first_name="Noor", last_name="Haddad")
    keys = [new_user(other, first_name=name, last_name=last) for name, last in (("Ada", "Moreau"), ("Tomasz", "Nowak"))]
    page = new_page(role="agent", at="", viewport=DESK, color_scheme="light")

    def edit(key: str, **fields: str) -> None:
        page.context.set_offline(False)
        page.goto(f"/admin/backoffice/user/{key}/change/")
        expect(page.locator("[data-record][data-ready] form[data-ready]")).to_be_visible()
        live_now(page)
        page.context.set_offline(True)
        for name, value in fields.items():
            page.fill(f"[name={name}]", value)
        page.click("[data-save]")
        expect(page.locator("[data-mine]")).to_be_visible()

    page.route("**/offline/person/", lambda route: route.abort())
    edit(keys[0], last_name="Moreau-Petit", reason="Married in May")
    page.emulate_media(color_scheme="dark")
    picture(page, "offline-dark", online=False)
    page.emulate_media(color_scheme="light")
    edit(keys[0], first_name="Adèle")
    edit(keys[1], first_name="Tomek", reason="As he signs")
    page.context.set_offline(False)
    page.goto("/admin/offline/")
    expect(page.locator("[data-section=waiting] .edit")).to_have_count(3)
    page.context.set_offline(True)
    expect(page.locator("[data-network]")).to_be_visible()
    picture(page, "offline-light", online=False)
    page.set_viewport_size(PHONE)
    page.emulate_media(color_scheme="dark")
    picture(page, "offline-phone", online=False)
    page.set_viewport_size(DESK)
    page.emulate_media(color_scheme="light")

    command(other, "user.update", keys[1], {"first_name": "Thomas"})
    email = stack.query("select email from users where id = %s", taken)[0][0]
    edit(taken, last_name="Haddad-Roux")
    edit(keys[0], email=email, reason="By phone")
    page.unroute("**/offline/person/")
    page.context.set_offline(False)
    page.goto("/admin/offline/")
    expect(page.locator("[data-section=refused] .edit")).to_be_visible()
    picture(page, "tray-light", online=False)
