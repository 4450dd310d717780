"""Fixtures for everybody: the live stack, the browser, its pages. The services are in `services_plugin`."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, connections
from django.db.backends.base.creation import TEST_DATABASE_PREFIX
from django.test import TransactionTestCase
from django.test.utils import setup_databases, teardown_databases
from django.utils import translation
from django.utils.crypto import get_random_string
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from psycopg.pq import TransactionStatus

from tests import live, services_plugin
from tests import own_database as own_databases
from tests.events.interleaving import LONG

# How long an example takes is the machine's business, and no measure of the code. Every turn tries a few; `make chaos`
# tries many.
hypothesis_settings.register_profile(
    "suite", max_examples=2_000 if LONG else 40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("suite")

CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    # The last of these is heard: Playwright's list, as far as it matters here; the two pages Chromium keeps ready in
    # each window for suggestions under an address bar, which cost more than the page under test; and a spare process.
    (
        "--disable-features=AimEnabled,AvoidUnnecessaryBeforeUnloadCheckSync,DestroyProfileOnBrowserClose,"
        "HttpsFirstBalancedModeAutoEnable,HttpsUpgrades,LensOverlay,MediaRouter,NetworkTimeServiceQuerying,"
        "OptimizationHints,PaintHolding,PreconnectToSearch,SpareRendererForSitePerProcess,"
        "ThirdPartyStoragePartitioning,WebUIOmniboxAimPopup,WebUIOmniboxPopup"
    ),
]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes seconds goes first: last, it would keep one core waiting for the other.

    Each worker is given an equal piece of the list, and takes from the end of another's when it is done. So one begins
    with what needs a browser, another with what starts services; all go on with the thousands of quick ones.
    """
    kinds: dict[str, list[pytest.Item]] = {"browser": [], "services": [], "": []}
    for item in items:
        kinds[next((kind for kind in kinds if kind and item.get_closest_marker(kind)), "")].append(item)
    browser, services, quick = kinds.values()
    share = len(items) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    cut = max(0, share - len(browser))
    items[:] = browser + quick[:cut] + services + quick[cut:]


def pytest_collection_finish() -> None:
    """Modules and collected tests stay to the end: looking for garbage among them was an eighth of a worker's time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown() -> None:
    """A test that its time limit cut off in the middle of a query leaves a line that fails every test after it; one
    that asked for a page in French leaves its language."""
    translation.deactivate()
    for line in connections.all(initialized_only=True):
        if line.connection is not None and line.connection.info.transaction_status == TransactionStatus.ACTIVE:
            line.connection.close()


# What the migrations fill, and no test changes.
KEPT = {"django_content_type", "auth_permission"}


@pytest.fixture(scope="session", autouse=True)
def _quick_flush() -> Iterator[None]:
    """After a test with real commits Django truncates every table, then signals `post_migrate`, which fills two of them
    again. Emptying those tables alone that are not empty costs a hundredth of that."""

    def empty(self: Any) -> None:
        for name in self._databases_names(include_mirrors=False):
            line = connections[name]
            with line.cursor() as cursor:
                known = sorted(set(line.introspection.django_table_names(only_existing=True)) - KEPT)
                cursor.execute(" union all ".join(f"(select '{table}' from {table} limit 1)" for table in known))
                if full := [table for (table,) in cursor.fetchall()]:
                    cursor.execute(f"truncate {', '.join(full)} cascade")

    patch = pytest.MonkeyPatch()
    patch.setattr(TransactionTestCase, "_fixture_teardown", empty)
    yield
    patch.undo()


@pytest.fixture(scope="session")
def template(django_db_setup: None) -> str:
    """The name of a database as the migrations leave it, to copy: migrating another one afresh would take seconds."""
    return connection.settings_dict["NAME"] + live.TEMPLATE


@pytest.fixture
def own_database(transactional_db: None, template: str) -> Iterator[None]:
    """A database of the test's own: rebuilds read the whole log, and other tests leave events in theirs."""
    with own_databases.own_database(template):
        yield


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    made = []
    with django_db_blocker.unblock():
        if not connection.settings_dict["NAME"].startswith(TEST_DATABASE_PREFIX):  # only live tests
            made = setup_databases(verbosity=0, interactive=False)
        name = connection.settings_dict["NAME"]
        connection.close()
        connection.close_pool()
        live.copy_database(name, name + live.TEMPLATE)
    yield
    live.drop_database(name + live.TEMPLATE)
    with django_db_blocker.unblock():
        teardown_databases(made, verbosity=0)


@pytest.fixture(scope="session")
def session_stack(template: str) -> Iterator[live.Stack]:
    """One live stack for this process; use `stack`, which mends what a test broke."""
    stack = live.Stack(services_plugin.worker(), template)
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
    from metrics.management.commands import doctor

    return doctor.chromium_path()


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
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=20_000)  # a busy machine is no failure; what never comes is still found
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
    `color_scheme="dark"`, `viewport={...}`, `locale="fr"`, `reduced_motion="no-preference"`, `storage_state=…`,
    `service_workers="allow"`. `role="agent"` signs in and opens `at` (nothing when it is empty: for tests that begin
    elsewhere). A script error or a break of the content security policy fails the test."""
    asyncio._set_running_loop(browser.event_loop)
    contexts, troubles = [], []

    def note(message: Any) -> None:
        if message.type == "error" and "Content Security Policy" in message.text:
            troubles.append(message.text)

    def make(role: str | None = None, at: str = "/admin/", **options: Any) -> Any:
        options.setdefault("service_workers", "block")  # it would fetch the whole shell for each context
        options.setdefault("reduced_motion", "reduce")  # a dot that breathes is drawn sixty times a second
        context = browser.new_context(base_url=session_stack.url, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", note)
        if role:
            given = {
                settings.SESSION_COOKIE_NAME: session_stack.session(role),
                settings.CSRF_COOKIE_NAME: get_random_string(32),
            }
            context.add_cookies([{"name": n, "value": v, "url": session_stack.url} for n, v in given.items()])
            if at:
                page.goto(at)
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
    """As a person does."""
    page.goto("/admin/login/")
    page.fill("input[name=username]", role)
    page.fill("input[name=password]", live.PASSWORD)
    page.press("input[name=password]", "Enter")
    page.wait_for_url("**/admin/")
