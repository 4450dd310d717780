"""The dashboard in Chromium: arranging by keyboard and pointer, two tabs, live values, phone, paper, without scripts.

Each page fails its test on a script error or a violation of the content security policy.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import live
from tests.browser.test_admin import DESK, PHONE, expect, live_now, new_user
from tests.metrics.dashboard import samples

pytestmark = [pytest.mark.browser, pytest.mark.services]


@pytest.fixture(autouse=True)
def _default_layouts(stack: live.Stack) -> None:
    stack.query("delete from metrics_layout")


def order(page: Any) -> list[str]:
    found: list[str] = page.locator("[data-tile]").evaluate_all("all => all.map((one) => one.dataset.kind)")
    return found


def saved(stack: live.Stack) -> list[dict[str, Any]]:
    ((body,),) = stack.query("select body from metrics_layout")
    tiles: list[dict[str, Any]] = body["tiles"]
    return tiles


def arranging(new_page: Callable[..., Any], role: str = "agent", **options: Any) -> Any:
    page = new_page(role=role, **{"viewport": DESK, **options})
    page.get_by_role("button", name="Arrange").click()
    expect(page.get_by_role("group", name="Arrange the dashboard")).to_be_visible()
    return page


def handle(page: Any, kind: str) -> Any:
    return page.locator(f"[data-kind={kind}] [data-handle]")


def is_saved(page: Any) -> None:
    expect(page.locator("[data-arrange-status]")).to_have_text("Saved")


# -- arranging --------------------------------------------------------------------------------------------------------


def test_tiles_are_moved_and_resized_by_keyboard_and_announced(new_page: Callable[..., Any], stack: live.Stack) -> None:
    page = arranging(new_page)
    before, said = order(page), page.locator("[data-board-announcer]")
    grip = handle(page, "staff_online")
    grip.focus()
    expect(grip).to_have_accessible_name(f"Move Staff online: position 2 of {len(before)}, width 1, height 1")
    page.keyboard.press("Enter")
    expect(grip).to_have_attribute("aria-pressed", "true")
    expect(said).to_contain_text("Staff online is held, position 2")
    page.keyboard.press("ArrowRight")
    expect(said).to_have_text(f"Staff online, position 3 of {len(before)}, width 1, height 1")
    expect(grip).to_be_focused()
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    expect(said).to_have_text(f"Staff online, position 3 of {len(before)}, width 2, height 2")
    page.keyboard.press("Enter")
    expect(said).to_contain_text("Staff online is placed")
    is_saved(page)
    moved = [before[0], before[2], before[1], *before[3:]]
    assert order(page) == moved
    assert [tile["kind"] for tile in saved(stack)] == moved
    assert (saved(stack)[2]["w"], saved(stack)[2]["h"]) == (2, 2)
    expect(page.locator("[data-kind=staff_online] [data-metric-chart]")).to_be_visible()  # it is tall enough now
    page.reload()
    assert order(page) == moved


def test_escape_takes_a_move_back_and_undo_takes_back_what_was_saved(
    new_page: Callable[..., Any], stack: live.Stack
) -> None:
    page = arranging(new_page)
    before = order(page)
    grip = handle(page, "health")
    grip.focus()
    for key in ("Enter", "ArrowDown", "Shift+ArrowRight", "End", "Escape"):
        page.keyboard.press(key)
    expect(grip).to_be_focused()
    expect(grip).to_have_attribute("aria-pressed", "false")
    assert order(page) == before
    assert stack.query("select 1 from metrics_layout") == []
    for key in ("Enter", "ArrowRight", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    is_saved(page)
    assert order(page).index("health") == 2
    page.keyboard.press("Control+z")
    is_saved(page)
    assert order(page) == before
    assert page.get_by_role("button", name="Undo").is_disabled()


def test_tiles_are_arranged_by_buttons_without_dragging(new_page: Callable[..., Any], stack: live.Stack) -> None:
    page = arranging(new_page)
    before = order(page)
    page.get_by_role("button", name="Later: Health").click()
    assert order(page)[:2] == [before[1], "health"]
    page.get_by_role("button", name="Wider: Health").click()
    page.get_by_role("button", name="Taller: Health").click()
    page.get_by_role("button", name="Remove: Staff online").click()
    expect(page.locator("[data-board-announcer]")).to_have_text("Staff online removed. Undo brings it back.")
    is_saved(page)
    assert "staff_online" not in order(page)
    assert saved(stack)[0] | {"id": ""} == {"id": "", "kind": "health", "w": 2, "h": 2, "options": {}}
    for _ in range(4):
        page.get_by_role("button", name="Undo").click()
    is_saved(page)
    assert order(page) == before


def test_tile_is_dragged_with_the_pointer(new_page: Callable[..., Any], stack: live.Stack) -> None:
    page = arranging(new_page)
    before = order(page)
    start, end = handle(page, "health").bounding_box(), page.locator("[data-kind=alerts]").bounding_box()
    page.mouse.move(start["x"] + 10, start["y"] + 10)
    page.mouse.down()
    page.mouse.move(start["x"] + 60, start["y"] + 40, steps=4)
    page.mouse.move(end["x"] + 40, end["y"] + 60, steps=8)
    page.mouse.up()
    is_saved(page)
    at = order(page).index("health")
    assert at > 0
    assert [tile["kind"] for tile in saved(stack)] == order(page)
    expect(page.locator("[data-board-announcer]")).to_contain_text(f"Health, position {at + 1} of")
    expect(handle(page, "health")).to_have_attribute("aria-pressed", "false")
    page.get_by_role("button", name="Undo").click()
    is_saved(page)
    assert order(page) == before


def test_second_tab_is_asked_before_it_overwrites(new_page: Callable[..., Any], stack: live.Stack) -> None:
    first = arranging(new_page)
    second = first.context.new_page()
    second.goto("/admin/")
    second.get_by_role("button", name="Arrange").click()
    first.get_by_role("button", name="Wider: Health").click()
    is_saved(first)
    second.get_by_role("button", name="Taller: Health").click()
    notice = second.locator("[data-board-notice]")
    expect(notice).to_contain_text("changed in another tab")
    assert (saved(stack)[0]["w"], saved(stack)[0]["h"]) == (2, 1)
    notice.get_by_role("button", name="Save mine").click()
    is_saved(second)
    expect(notice).to_be_hidden()
    assert (saved(stack)[0]["w"], saved(stack)[0]["h"]) == (1, 2)
    first.get_by_role("button", name="Later: Health").click()
    first.locator("[data-board-notice]").get_by_role("button", name="Show that version").click()
    expect(first.locator("[data-kind=health]")).to_have_class("widget card w-1 h-2 widget-fresh")


def test_tile_is_added_and_the_default_comes_back(new_page: Callable[..., Any], stack: live.Stack) -> None:
    page = arranging(new_page)
    before = order(page)
    page.get_by_role("button", name="Add a tile").click()
    dialog = page.get_by_role("dialog", name="Add a tile")
    assert "CPU" not in dialog.get_by_label("Widget").inner_text()
    dialog.get_by_label("Widget").select_option(label="Note")
    dialog.get_by_label("Text").fill("Call <Lyon>")
    dialog.get_by_role("button", name="Add", exact=True).click()
    is_saved(page)
    expect(page.locator("[data-kind=note]")).to_contain_text("Call <Lyon>")
    expect(handle(page, "note")).to_be_focused()
    page.get_by_role("button", name="Add a tile").click()
    dialog.get_by_label("Widget").select_option(label="Any metric")
    dialog.get_by_label("Metric", exact=True).select_option(label="Users active in the last 24 hours")
    dialog.get_by_label("Shown as").select_option(label="Table")
    dialog.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("heading", name="Users active in the last 24 hours")).to_be_visible()
    expect(page.locator("[data-kind=metric] tbody tr").first).to_be_visible()
    is_saved(page)
    assert [tile["options"] for tile in saved(stack)[-2:]] == [
        {"text": "Call <Lyon>"},
        {"metric": "users.active_day", "view": "table"},
    ]
    page.on("dialog", lambda question: question.accept())
    page.get_by_role("button", name="Reset").click()
    expect(page.locator("[data-kind=note]")).to_have_count(0)
    assert order(page) == before


def test_tile_shows_the_host_that_was_chosen(new_page: Callable[..., Any], stack: live.Stack) -> None:
    samples.store(stack.query, 60)
    page = arranging(new_page, role="manager")
    page.get_by_role("button", name="Add a tile").click()
    dialog = page.get_by_role("dialog", name="Add a tile")
    dialog.get_by_label("Widget").select_option(label="Any metric")
    target = dialog.get_by_label("Target")
    expect(target).to_be_hidden()
    dialog.get_by_label("Metric", exact=True).select_option(label="Memory, of the limit")
    target.select_option("web-1")
    dialog.get_by_label("Shown as").select_option(label="Number")
    dialog.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("heading", name="Memory, of the limit · web-1")).to_be_visible()
    is_saved(page)
    assert saved(stack)[-1]["options"] == {"metric": "memory.percent", "view": "number", "target": "web-1"}


def test_import_names_what_is_unknown_and_what_is_forbidden(
    new_page: Callable[..., Any], stack: live.Stack, tmp_path: Path
) -> None:
    page = arranging(new_page)
    file = tmp_path / "dashboard.json"
    kinds = ("note", "weather", "cpu", "health")
    tiles = [{"id": f"t{n}", "kind": kind, "w": 2, "h": 1, "options": {}} for n, kind in enumerate(kinds)]
    file.write_text(json.dumps({"schema": 1, "tiles": tiles}))
    page.locator("[data-import-file]").set_input_files(file)
    dialog = page.get_by_role("dialog", name="Imported")
    expect(dialog).to_contain_text("3 tiles were imported.")
    expect(dialog).to_contain_text("Not available here: weather.")
    expect(dialog).to_contain_text("Left out, not permitted: cpu.")
    dialog.get_by_role("button", name="Show the dashboard").click()
    expect(page.locator("[data-kind=weather]")).to_contain_text("no widget “weather”")
    assert order(page) == ["note", "weather", "health"]
    page.get_by_role("button", name="Arrange").click()
    file.write_text("{")
    page.locator("[data-import-file]").set_input_files(file)
    expect(page.locator("[data-arrange-status]")).not_to_be_empty()
    assert order(page) == ["note", "weather", "health"]


def test_shared_copy_can_be_opened_by_a_colleague(new_page: Callable[..., Any], stack: live.Stack) -> None:
    page = arranging(new_page, role="manager")
    page.get_by_role("button", name="Share a copy").click()
    dialog = page.get_by_role("dialog", name="Share a copy")
    dialog.get_by_label("Name of the copy").fill("Night shift")
    dialog.get_by_role("button", name="Share", exact=True).click()
    expect(dialog.locator("[data-share-result]")).to_contain_text("/admin/dashboard/shared/")
    address = dialog.get_by_role("link", name="Night shift").get_attribute("href")
    reader = new_page(role="viewer", at=address)
    expect(reader.get_by_role("heading", name="Night shift")).to_be_visible()
    expect(reader.locator("[data-kind=cpu]")).to_contain_text("Your role may not see this widget.")
    expect(reader.get_by_role("button", name="Arrange")).to_have_count(0)
    dialog.get_by_role("button", name="Remove").click()
    expect(dialog.get_by_role("link", name="Night shift")).to_have_count(0)
    assert reader.reload().status == 404


# -- live -------------------------------------------------------------------------------------------------------------


def test_numbers_and_charts_follow_the_samples_until_paused(new_page: Callable[..., Any], stack: live.Stack) -> None:
    samples.store(stack.query, 180)
    page = new_page(role="admin", at="/admin/?range=15m", viewport=DESK)
    live_now(page)
    tile = page.locator("[data-kind=memory]")
    plot = tile.get_by_role("group", name="Memory").first
    plot.focus()
    page.keyboard.press("Home")  # stored above, while the newest one, of a busy machine, may have no value
    readout = tile.locator("[data-readout]")
    expect(readout).to_have_attribute("aria-live", "polite")
    first = readout.text_content()
    assert "%" in first
    page.keyboard.press("End")
    expect(readout).not_to_have_text(first)
    last = readout.text_content()
    page.keyboard.press("ArrowLeft")
    expect(readout).not_to_have_text(last)
    page.keyboard.press("Escape")
    expect(readout).to_have_text("")
    clock = page.locator("[data-board-words]")
    expect(clock).to_contain_text("as of")
    before = clock.text_content()
    expect(clock).not_to_have_text(before, timeout=60_000)  # samples of the running sampler
    page.get_by_role("button", name="Pause").click()
    expect(clock).to_contain_text("paused at")
    page.get_by_role("button", name="Pause").click()
    expect(clock).to_contain_text("as of")


def test_lists_follow_events(new_page: Callable[..., Any], stack: live.Stack) -> None:
    page, other = new_page(role="agent", viewport=DESK), new_page(role="manager", at="")
    live_now(page)
    key = new_user(other, last_name="Zimmermann")
    expect(page.locator("[data-kind=activity]")).to_contain_text("Zimmermann")
    link = page.locator("[data-kind=activity] li a").first
    link.focus()
    new_user(other, last_name="Abendroth")
    expect(page.locator("[data-kind=activity]")).to_contain_text("Abendroth")
    expect(page.locator("[data-kind=activity] li a").first).to_be_focused()
    assert key


def test_missed_samples_are_read_from_the_history(new_page: Callable[..., Any], stack: live.Stack) -> None:
    samples.store(stack.query, 100)
    page = new_page(role="admin", at="", viewport=DESK)
    asked: list[str] = []
    page.on("request", lambda request: "metrics/history" in request.url and asked.append(request.url))
    page.goto("/admin/?range=15m")
    live_now(page)
    page.get_by_role("button", name="Pause").click()
    with page.expect_response(lambda answer: "metrics/history" in answer.url and "memory.percent" in answer.url) as got:
        page.get_by_role("button", name="Pause").click()
    assert got.value.ok
    found = got.value.json()
    assert found["metric"] == "memory.percent"
    assert all("after=" in url and "step=" in url for url in asked)


def test_old_values_are_marked_and_announced(new_page: Callable[..., Any], stack: live.Stack) -> None:
    stack.stop_process("subscriptions")  # the sampler
    stack.query("delete from metrics_sample")
    samples.store(stack.query, 50, until=30)
    page = new_page(role="admin", viewport=DESK)
    tile = page.locator("[data-kind=memory]")
    expect(tile.locator(".is-silent")).to_be_visible()
    name = page.get_by_role("region", name="Memory no values for")
    expect(name).to_be_visible()
    expect(page.locator("[data-board-words]")).to_contain_text("no values since")
    expect(page.locator("[data-kind=health]")).to_contain_text("Sampler")


# -- other media ------------------------------------------------------------------------------------------------------


def test_phone_shows_one_column_in_reading_order_and_saves_no_smaller_tiles(
    new_page: Callable[..., Any], stack: live.Stack
) -> None:
    samples.store(stack.query, 60)
    page = arranging(new_page, role="manager", viewport=PHONE)
    boxes = page.locator("[data-tile]").evaluate_all(
        "all => all.map((one) => { const box = one.getBoundingClientRect(); return [box.left, box.top, box.right]; })"
    )
    assert len({left for left, _, _ in boxes}) == 1
    assert [top for _, top, _ in boxes] == sorted(top for _, top, _ in boxes)
    assert all(right <= PHONE["width"] for _, _, right in boxes)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    size = page.get_by_role("button", name="Later: Health").bounding_box()
    assert min(size["width"], size["height"]) >= 24
    page.get_by_role("button", name="Later: Health").click()
    is_saved(page)
    widths = {tile["kind"]: (tile["w"], tile["h"]) for tile in saved(stack)}
    assert (widths["cpu"], widths["figures"]) == ((2, 2), (2, 1))


def test_page_works_without_scripts(new_page: Callable[..., Any], stack: live.Stack) -> None:
    samples.store(stack.query, 180)
    page = new_page(role="admin", java_script_enabled=False, viewport=DESK)
    cpu = page.locator("[data-kind=cpu]")
    expect(cpu.get_by_role("img", name="CPU")).to_be_visible()
    cpu.locator("summary").click()
    expect(cpu.locator("tbody tr").first).to_be_visible()
    expect(page.get_by_role("button", name="Arrange")).to_be_hidden()
    page.get_by_role("link", name="6 hours").click()
    page.wait_for_url("**/admin/?range=6h")
    expect(page.locator("[data-kind=cpu]").get_by_role("img")).to_be_visible()


def test_paper_shows_the_charts_of_the_server(new_page: Callable[..., Any], stack: live.Stack) -> None:
    samples.store(stack.query, 180)
    page = new_page(role="admin", viewport=DESK)
    memory = page.locator("[data-kind=memory]")
    expect(memory.locator(".chart-canvas canvas")).to_be_visible()
    expect(memory.locator(".plot")).to_be_hidden()
    page.emulate_media(media="print")
    expect(memory.locator(".chart-canvas")).to_be_hidden()
    expect(memory.locator(".plot")).to_be_visible()
    expect(page.get_by_role("button", name="Arrange")).to_be_hidden()


def test_fixed_range_does_not_move(new_page: Callable[..., Any], stack: live.Stack) -> None:
    page = new_page(role="admin", at="/admin/?from=2026-01-01&to=2026-01-02", viewport=DESK)
    expect(page.get_by_text("A fixed range: the charts do not move.")).to_be_visible()
    expect(page.get_by_role("button", name="Pause")).to_be_hidden()


def test_kiosk_mode_hides_everything_but_the_tiles(new_page: Callable[..., Any], stack: live.Stack) -> None:
    page = new_page(role="manager", viewport=DESK)
    page.get_by_role("link", name="Kiosk mode").click()
    page.wait_for_url("**kiosk=1")
    expect(page.get_by_role("navigation", name="Main")).to_be_hidden()
    page.get_by_role("link", name="24 hours").click()
    page.wait_for_url("**kiosk=1")
    page.get_by_role("link", name="Leave kiosk mode").click()
    expect(page.get_by_role("navigation", name="Main")).to_be_visible()
