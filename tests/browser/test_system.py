"""The operator pages in a browser: they refresh themselves, show when they are outdated, and keep the focus."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from events.types import new_id
from tests import live
from tests.browser.test_admin import command, expect, live_now, new_user

pytestmark = [pytest.mark.browser, pytest.mark.services]

OPEN_APPEND = """
select o_position
  from events_append_one(%s, null, 'user.updated', 1::smallint, '{}', %s, 'system', null, null, null, '{}')
"""


def test_head_holder_appears_and_disappears_and_is_stale_without_server(
    new_page: Callable[..., Any], stack: live.Stack
) -> None:
    page = new_page(role="admin")
    page.keyboard.press("g")
    page.keyboard.press("l")
    page.wait_for_url("**/system/head/")
    holders, fresh = page.locator("[data-part=holders]"), page.locator("[data-poll-status]")
    expect(holders).to_contain_text("None")
    expect(fresh).to_have_attribute("data-state", "live")
    button = page.get_by_role("button", name="Check the whole log")
    button.focus()
    with psycopg.connect(stack.database_url, application_name="nightly import") as session:
        session.execute(OPEN_APPEND, (f"user-{new_id()}", new_id()))
        expect(holders).to_contain_text("nightly import")
        expect(holders).to_contain_text("Idle in a transaction that has stored events")
        session.rollback()
    expect(holders).to_contain_text("None")
    expect(button).to_be_focused()
    stack.kill_web()
    expect(fresh).to_have_attribute("data-state", "stale")
    expect(fresh).to_contain_text("stale")
    stack.restart_stopped()
    expect(fresh).to_have_attribute("data-state", "live", timeout=30_000)


def test_event_browser_announces_only_matching_events(new_page: Callable[..., Any], stack: live.Stack) -> None:
    page, other = (new_page(role=role, at="") for role in ("manager", "agent"))
    mine, others = new_user(page), new_user(page)
    page.goto(f"/admin/events/storedevent/?stream=user-{mine}&type=user.*")
    live_now(page)
    for key in (others, mine):
        command(other, "user.update", key, {"first_name": "Augusta"})
    button = page.locator("[data-news-show]")
    expect(button).to_have_text("1 new: show")
    button.click()
    expect(page.locator("table.records tbody tr")).to_have_count(2)
    page.locator("table.records tbody tr a.main-link").first.click()
    expect(page.locator(".lines")).to_contain_text("Augusta")


PROGRESS = """
insert into person_exports (id, user_id, requested_at, requested_by, key_id, secret, parts, records, expected, bytes,
                            updated_at, error)
values (%s, %s, now(), 'staff:1', 'x', '', 1, 3, 10, 2000, now(), '')
"""
PURGE = """
with key as (
    update events_subject_key set purged_at = null where subject = %s returning subject, erased_at)
insert into events_purge (erased_at, subjects, step, rows, expected)
select erased_at, array[subject], 'answers of submissions', 40, 100 from key
"""


def test_progress_of_an_export_and_of_a_purge_is_followed(new_page: Callable[..., Any], stack: live.Stack) -> None:
    page = new_page(role="admin", at="")
    key, export = new_user(page), new_id()
    with psycopg.connect(stack.database_url, autocommit=True) as session:
        session.execute(PROGRESS, (export, key))
        page.goto(f"/admin/backoffice/user/{key}/exports/")
        expect(page.locator("progress")).to_have_attribute("value", "30")
        session.execute("update person_exports set records = 10, finished_at = now() where id = %s", (export,))
        expect(page.get_by_role("button", name="Download")).to_be_visible()
        expect(page.locator("progress")).to_have_count(0)
        page.get_by_role("button", name="Delete").click()
        expect(page.locator("[data-part=none]")).to_be_visible()

        command(page, "user.erase", key, {}, reason="asked")
        session.execute(PURGE, (f"user-{key}",))
        page.goto(f"/admin/backoffice/user/{key}/change/")
        expect(page.locator("[data-part=purge]")).to_contain_text("40 of 100 rows")
        session.execute("update events_subject_key set purged_at = now() where subject = %s", (f"user-{key}",))
        expect(page.locator("[data-part=purge]")).to_have_text("All copies are deleted.")
