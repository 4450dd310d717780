"""A release while browsers have pages and scripts of the one before, with static files as in production."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests import live
from tests.browser.test_admin import live_now, new_user, record
from tests.browser.test_offline import offline, opened, queued, save, user, with_worker

pytestmark = [pytest.mark.browser, pytest.mark.services]

SCRIPTS = live.PROJECT / "backoffice" / "static"
NEWER_WORKER = """async (older) => {
  for (;;) {
    const shells = (await caches.keys()).filter((name) => name.startsWith("formease-shell-"));
    const registration = await navigator.serviceWorker.getRegistration();
    if (shells.some((name) => !older.includes(name)) && registration.active && !registration.installing
      && !registration.waiting && registration.active.state === "activated") return;
    await new Promise((again) => setTimeout(again, 20));
  }
}"""
SHELLS = "caches.keys().then((names) => names.filter((name) => name.startsWith('formease-shell-')))"


@pytest.fixture(scope="module")
def releases(session_stack: live.Stack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Two releases: environments with their collected static files.

    The second one renames functions that modules import from each other, and marks its pages.
    """
    folder = tmp_path_factory.mktemp("releases")
    changes = folder / "changes"
    for source in SCRIPTS.rglob("*.js"):
        text = re.sub(r"\b(announce|dismissToasts)\b", r"\1Renamed", source.read_text())
        if source.name == "page.js":
            text += 'document.documentElement.dataset.release = "second";\n'
        if text != source.read_text():
            target = changes / source.relative_to(SCRIPTS)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
    return {name: collected(session_stack, folder / name, path) for name, path in (("first", ""), ("second", changes))}


def collected(stack: live.Stack, folder: Path, changes: Path | str) -> dict[str, str]:
    release = {
        "DJANGO_SETTINGS_MODULE": "tests.released_settings",
        "RELEASE_FILES": str(folder),
        "RELEASE_CHANGES": str(changes),
    }
    with environment(stack, release):
        stack.manage("collectstatic", "--noinput", "--ignore=drf_spectacular_sidecar")
    return release


@contextlib.contextmanager
def environment(stack: live.Stack, values: dict[str, str]) -> Iterator[None]:
    before = dict(stack.env)
    stack.env.update(values)
    try:
        yield
    finally:
        stack.env = before


@pytest.fixture
def deploy(stack: live.Stack, releases: dict[str, dict[str, str]]) -> Iterator[Callable[[str], None]]:
    """Returns a function that replaces the web process by one of a release."""
    before = dict(stack.env)

    def replace(name: str) -> None:
        stack.kill_web()
        stack.env.update(releases[name])
        stack.start_web()

    yield replace
    stack.env = before
    stack.kill_web()  # the stack starts the usual one again


def test_page_of_a_new_release_imports_no_script_of_the_older_one(
    stack: live.Stack, deploy: Callable[[str], None], new_page: Callable[..., Any]
) -> None:
    deploy("first")
    page = new_page("manager", at="")
    key = new_user(page)
    record(page, key)
    expect(page.locator("[data-record][data-ready] form[data-ready]")).to_be_visible()
    deploy("second")
    record(page, key)  # the browser still has the scripts of the first release
    expect(page.locator("[data-record][data-ready] form[data-ready]")).to_be_visible()
    expect(page.locator("html")).to_have_attribute("data-release", "second")
    live_now(page)
    save(page, first_name="Augusta")
    expect(page.locator(".toast", has_text="Saved as version 2")).to_be_visible()


def test_kept_page_of_an_older_release_runs_with_the_scripts_of_its_release(
    stack: live.Stack, deploy: Callable[[str], None], new_page: Callable[..., Any]
) -> None:
    deploy("first")
    page = with_worker(new_page("manager", at="", service_workers="allow"))
    key, other = new_user(page, first_name="Ada"), new_user(page)
    opened(page, key)
    shells = page.evaluate(SHELLS)
    assert len(shells) == 1
    deploy("second")
    page.goto("/admin/offline/")
    page.evaluate(NEWER_WORKER, shells)
    opened(page, other)
    assert len(page.evaluate(SHELLS)) == 2
    offline(page)

    record(page, key)
    expect(page.locator("[data-record][data-ready] form[data-ready]")).to_be_visible()
    assert page.locator("html").get_attribute("data-release") is None
    save(page, first_name="Offline with the first release")
    queued(page, "1 waiting")
    record(page, other)
    expect(page.locator("[data-record][data-ready] form[data-ready]")).to_be_visible()
    expect(page.locator("html")).to_have_attribute("data-release", "second")
    page.context.set_offline(False)
    expect(page.locator("[data-queued]")).to_be_hidden()
    assert user(stack, key)[::2] == ("Offline with the first release", 2)
