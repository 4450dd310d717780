"""Fixtures for everybody: the live stack, the browser, its pages. The services are in `services_plugin`."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests import live, services_plugin

CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture(scope="session")
def session_stack() -> Iterator[live.Stack]:
    """One live stack for this process; use `stack`, which mends what a test broke."""
    stack = live.Stack(services_plugin.worker())
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


@pytest.fixture
def stack(session_stack: live.Stack) -> Iterator[live.Stack]:
    """Web and subscriptions as real processes, with a login for each role (`live.ROLES`, `live.PASSWORD`)."""
    yield session_stack
    session_stack.heal()


def chromium() -> str | None:
    named = os.environ.get("CHROMIUM")
    names = [named] if named else ["/usr/bin/chromium", "chromium", "chromium-browser", "google-chrome"]
    return next((found for name in names if (found := shutil.which(name))), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A real Chromium. Playwright keeps an event loop running in this thread for as long as it lives; between browser
    tests it is hidden, because Django's ORM and `asyncio.run` refuse to work below a running loop."""
    path = chromium()
    if path is None:
        said = "no Chromium found: install it, or set CHROMIUM to its path"
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(said)
        pytest.skip(said)
    from playwright.sync_api import sync_playwright

    driver = sync_playwright().start()
    launched = driver.chromium.launch(executable_path=path, args=CHROMIUM_OPTIONS)
    loop = asyncio._get_running_loop()
    launched.event_loop = loop
    asyncio._set_running_loop(None)
    yield launched
    asyncio._set_running_loop(loop)
    launched.close()
    driver.stop()


@pytest.fixture
def new_page(browser: Any, session_stack: live.Stack) -> Iterator[Callable[..., Any]]:
    """Pages, each in a browser context of its own (= another person). Options are those of `browser.new_context`:
    `color_scheme="dark"`, `viewport={...}`, `locale="fr"`, `reduced_motion="reduce"`, `storage_state=…`.
    `role="agent"` signs in. A script error or a break of the content security policy fails the test."""
    asyncio._set_running_loop(browser.event_loop)
    contexts, troubles = [], []

    def note(message: Any) -> None:
        if message.type == "error" and "Content Security Policy" in message.text:
            troubles.append(message.text)

    def make(role: str | None = None, **options: Any) -> Any:
        if role in session_stack.logins:
            options.setdefault("storage_state", session_stack.logins[role])
        context = browser.new_context(base_url=session_stack.url, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", note)
        if role:
            page.goto("/admin/")
            if "/login/" in page.url:  # the first of this role, or a test has ended the session since
                sign_in(page, role)
                session_stack.logins[role] = context.storage_state()
        return page

    try:
        yield make
        for context in contexts:
            context.close()
    finally:
        asyncio._set_running_loop(None)
    assert not troubles, "\n".join(troubles)


@pytest.fixture
def page(new_page: Callable[..., Any]) -> Any:
    """One page, nobody signed in."""
    return new_page()


def sign_in(page: Any, role: str) -> None:
    page.goto("/admin/login/")
    page.fill("input[name=username]", role)
    page.fill("input[name=password]", live.PASSWORD)
    page.press("input[name=password]", "Enter")
    page.wait_for_url("**/admin/")
