"""Figures in Chromium: numbers that move without a reload, charts by keyboard, pages without scripts and on paper."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from tests import live
from tests.browser.test_admin import DESK, PHONE, command, expect, live_now, new_user, record

pytestmark = [pytest.mark.browser, pytest.mark.services]


def new_form(page: Any, owner: str) -> str:
    key = str(uuid.uuid4())
    command(page, "form.create", key, {"user_id": owner, "title": f"Form {key[:8]}"})
    return key


def submit(page: Any, form: str, **more: Any) -> None:
    command(page, "submission.receive", uuid.uuid4(), {"form_id": form, "answers": {}, **more})


def marked(page: Any) -> None:
    """Mark the document, so that a reload is noticed."""
    page.evaluate("() => { document.body.dataset.same = 'yes'; }")


def is_the_same_page(page: Any) -> bool:
    return bool(page.evaluate("() => document.body.dataset.same === 'yes'"))


@pytest.fixture
def form(manager: Any) -> tuple[str, str]:
    """A user and a form of theirs with one submission."""
    owner = new_user(manager, first_name="Ada")
    key = new_form(manager, owner)
    submit(manager, key, completion_time=42)
    return owner, key


# -- live -------------------------------------------------------------------------------------------------------------


def test_numbers_of_lists_records_and_figures_move_when_a_submission_arrives(
    manager: Any, new_page: Callable[..., Any], form: tuple[str, str]
) -> None:
    owner, key = form
    pages = {name: new_page(role="agent", at="") for name in ("users", "forms", "user", "form", "figures")}
    pages["users"].goto("/admin/backoffice/user/")
    pages["forms"].goto("/admin/backoffice/form/")
    record(pages["user"], owner)
    record(pages["form"], key, "form")
    pages["figures"].goto("/admin/figures/")
    for page in pages.values():
        live_now(page)
        marked(page)
    cells = {
        "users": pages["users"].locator(f'tr[data-id="{owner}"] [data-added]').nth(1),
        "forms": pages["forms"].locator(f'tr[data-id="{key}"] [data-added]').first,
        "user": pages["user"].locator("[data-number=submissions] .figure-value"),
        "form": pages["form"].locator("[data-number=submissions] .figure-value"),
    }
    for cell in cells.values():
        expect(cell).to_have_text("1")
    total = pages["figures"].locator("[data-part=totals] [data-number=submissions] .figure-value")
    before = int(total.inner_text().replace(",", ""))
    for _ in range(3):
        submit(manager, key)
    for cell in cells.values():
        expect(cell).to_have_text("4")
    expect(total).to_have_text(f"{before + 3:,}")
    today = pages["form"].locator(".chart-table tbody tr").first
    expect(today.locator("td")).to_have_text("4")
    assert all(is_the_same_page(page) for page in pages.values())


def test_number_that_changed_while_the_page_was_offline_is_refreshed(
    manager: Any, new_page: Callable[..., Any], form: tuple[str, str], stack: live.Stack
) -> None:
    _owner, key = form
    page = new_page(role="agent", at="")
    record(page, key, "form")
    live_now(page)
    expect(page.locator(".chart-canvas canvas")).to_be_visible()  # the last script is loaded
    marked(page)
    page.context.set_offline(True)
    stack.kill_web()
    stack.start_web()
    submit(manager, key)
    page.context.set_offline(False)
    expect(page.locator("[data-number=submissions] .figure-value")).to_have_text("2")
    assert is_the_same_page(page)


# -- charts -----------------------------------------------------------------------------------------------------------


def test_chart_is_read_by_keyboard_and_keeps_its_place_when_numbers_change(
    manager: Any, new_page: Callable[..., Any], form: tuple[str, str]
) -> None:
    _owner, key = form
    page = new_page(role="agent", at="")
    record(page, key, "form")
    live_now(page)
    chart = page.locator("[data-chart]")
    box, readout = chart.locator(".chart-canvas"), chart.locator("[data-readout]")
    expect(box.locator("canvas")).to_be_visible()
    expect(chart.locator(".plot")).to_be_hidden()
    box.focus()
    page.keyboard.press("End")
    expect(readout).to_have_text(re.compile(r": Submissions 1$"))
    expect(readout).to_have_attribute("aria-live", "polite")
    last = readout.inner_text()
    page.keyboard.press("ArrowLeft")
    expect(readout).to_have_text(re.compile(r": Submissions 0$"))
    page.keyboard.press("ArrowRight")
    expect(readout).to_have_text(last)
    submit(manager, key)
    expect(readout).to_have_text(re.compile(r": Submissions 2$"))
    page.keyboard.press("Home")
    first = readout.inner_text()
    expect(readout).not_to_have_text(last)
    page.keyboard.press("ArrowLeft")
    expect(readout).to_have_text(first)
    page.keyboard.press("Escape")
    expect(readout).to_have_text("")


def test_pointer_shows_the_values_of_a_moment_without_announcing_them(
    new_page: Callable[..., Any], form: tuple[str, str]
) -> None:
    page = new_page(role="agent", at="")
    record(page, form[1], "form")
    chart = page.locator("[data-chart]")
    chart.scroll_into_view_if_needed()
    chart.locator(".u-over").hover()
    readout = chart.locator("[data-readout]")
    expect(readout).to_have_text(re.compile("Submissions"))
    expect(readout).to_have_attribute("aria-live", "off")


def test_every_chart_has_a_name_a_table_and_is_reached_by_tab(
    new_page: Callable[..., Any], form: tuple[str, str], stack: live.Stack
) -> None:
    stack.manage("refresh_views", "--force")
    page = new_page(role="agent", at="/admin/figures/")
    charts = page.locator("[data-chart]")
    expect(charts.locator(".chart-canvas canvas")).to_have_count(5)
    for box in charts.locator(".chart-canvas").all():
        assert box.get_attribute("tabindex") == "0"
        assert len(box.get_attribute("aria-label") or "") > 20
    tables = page.locator(".chart-table table")
    assert tables.count() == 5
    page.locator(".chart-table summary").first.press("Enter")
    expect(tables.first).to_be_visible()


# -- without scripts, on paper, on a phone ----------------------------------------------------------------------------


def test_page_works_without_scripts(new_page: Callable[..., Any], form: tuple[str, str]) -> None:
    page = new_page(role="agent", at="", java_script_enabled=False)
    page.goto("/admin/figures/?range=7d")
    expect(page.locator("#submissions-card .plot")).to_be_visible()
    page.get_by_role("link", name="90 days").click()
    expect(page).to_have_url(re.compile("range=90d"))
    page.locator("#submissions-card summary").click()
    expect(page.locator("#submissions-card tbody tr")).to_have_count(90)
    page.fill("[name=from]", "2026-01-01")
    page.fill("[name=to]", "2026-01-31")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page.locator("#submissions-card tbody tr")).to_have_count(31)


def test_paper_gets_the_drawing_of_the_server(new_page: Callable[..., Any], form: tuple[str, str]) -> None:
    page = new_page(role="agent", at="/admin/figures/")
    chart = page.locator("#submissions-card")
    expect(chart.locator("canvas")).to_be_visible()
    page.emulate_media(media="print")
    expect(chart.locator(".plot")).to_be_visible()
    expect(chart.locator("canvas")).to_be_hidden()


def test_phone_does_not_scroll_sideways(new_page: Callable[..., Any], form: tuple[str, str]) -> None:
    page = new_page(role="agent", at="/admin/figures/", viewport=DESK)
    expect(page.locator("#submissions-card canvas")).to_be_visible()
    page.set_viewport_size(PHONE)
    page.wait_for_function("() => document.documentElement.scrollWidth <= innerWidth")


def test_download_has_the_range_of_the_page(new_page: Callable[..., Any], form: tuple[str, str]) -> None:
    page = new_page(role="agent", at="/admin/figures/?range=7d")
    with page.expect_download() as download:
        page.locator("#submissions-card a[download]").click()
    text = download.value.path().read_text("utf-8-sig")
    assert text.splitlines()[0] == "date,submissions"
    assert len(text.splitlines()) == 8
