"""The journey of an offline edit: page, queue in the browser, connection back, sync, verdict, empty queue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests import live
from tests.flows.people import Person

pytestmark = [pytest.mark.browser, pytest.mark.services]

WORKER_IN_CONTROL = """new Promise((done) => {
  if (navigator.serviceWorker.controller) done();
  navigator.serviceWorker.addEventListener("controllerchange", done);
})"""
PAGE_IN_CACHE = """async (path) => {
  for (;;) {
    for (const name of await caches.keys()) {
      if (name.startsWith("formease-pages-") && (await (await caches.open(name)).match(path))) return;
    }
    await new Promise((again) => setTimeout(again, 20));
  }
}"""


def test_edit_made_without_a_network_is_merged_when_it_is_back(
    stack: live.Stack, person: Callable[[str], Person], new_page: Callable[..., Any]
) -> None:
    from playwright.sync_api import expect

    manager = person("manager")
    key = manager.create("user", first_name="Ada", last_name="Byron")
    record = f"/admin/backoffice/user/{key}/change/"

    # 1. The agent's browser has the service worker, which caches the record's page.
    page = new_page("agent", at="/admin/offline/", service_workers="allow")
    page.evaluate(WORKER_IN_CONTROL)
    page.goto(record)
    expect(page.locator("[data-record][data-ready] form[data-ready]")).to_be_visible()
    page.evaluate(PAGE_IN_CACHE, record)

    # 2. The network fails. A save is queued in the browser and shown in the header.
    page.context.set_offline(True)
    expect(page.locator("[data-network]")).to_be_visible()
    page.fill("[name=first_name]", "Augusta")
    page.click("[data-save]")
    expect(page.locator("[data-queued]")).to_be_visible()

    # 3. The page can be opened again, from the cache, with the queued edit on top.
    page.reload()
    expect(page.locator("[name=first_name]")).to_have_value("Augusta")

    # 4. Meanwhile another person changes the same record.
    assert manager.command("user.update", key, {"last_name": "King"}).json()["version"] == 2
    assert manager.get(f"users/{key}/")["first_name"] == "Ada"

    # 5. The network is back: the queue is sent by itself, and both changes are kept.
    page.context.set_offline(False)
    expect(page.locator("[data-queued]")).to_be_hidden()
    expect(page.locator("[data-network]")).to_be_hidden()
    expect(page.locator("[name=last_name]")).to_have_value("King")
    stored = manager.get(f"users/{key}/")
    assert (stored["first_name"], stored["last_name"]) == ("Augusta", "King")

    # 6. The history names the author of each edit.
    last = manager.events(f"user-{key}")[-1]
    assert (last["version"], last["data"]) == (3, {"first_name": "Augusta"})
    assert last["actor"] == f"staff:{stack.staff['agent'].pk}"
