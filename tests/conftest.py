"""Fixtures for all tests: the live stack, the browser and its pages. `services_plugin` starts the services."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
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
from tests.browser_contexts import KeptContexts
from tests.events.interleaving import LONG

# The time of an example depends on the machine, so there is no deadline. The suite tries a few; `make chaos` many.
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
    # Chromium obeys only the last --disable-features, so this repeats the relevant part of Playwright's list and adds
    # the two pages that Chromium preloads in each window for address-bar suggestions, which cost more than the page
    # under test, and a spare process.
    (
        "--disable-features=AimEnabled,AvoidUnnecessaryBeforeUnloadCheckSync,DestroyProfileOnBrowserClose,"
        "HttpsFirstBalancedModeAutoEnable,HttpsUpgrades,LensOverlay,MediaRouter,NetworkTimeServiceQuerying,"
        "OptimizationHints,PaintHolding,PreconnectToSearch,SpareRendererForSitePerProcess,"
        "ThirdPartyStoragePartitioning,WebUIOmniboxAimPopup,WebUIOmniboxPopup"
    ),
]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run slow tests first: at the end, one worker would wait for another.

    Each worker gets an equal part of the list and steals from the end of another's part when it is done. One begins
    with the browser tests, another with those that start services; all continue with the thousands of quick ones.
    """
    kinds: dict[str, list[pytest.Item]] = {"browser": [], "services": [], "": []}
    for item in items:
        kinds[next((kind for kind in kinds if kind and item.get_closest_marker(kind)), "")].append(item)
    browser, services, quick = kinds.values()
    share = len(items) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    cut = max(0, share - len(browser))
    items[:] = browser + quick[:cut] + services + quick[cut:]


def pytest_collection_finish() -> None:
    gc.enable()  # `services_plugin` disabled it
    gc.set_threshold(50_000, 20, 50)
    _freeze()


def _freeze() -> None:
    """Exclude what exists from garbage collection: scanning modules and tests took an eighth of a worker's time."""
    gc.collect()
    gc.freeze()


_run = itertools.count(1)
FREEZE_EVERY = 250  # tests; what they leave, such as compiled templates, made each collection three times as long


@pytest.hookimpl(trylast=True)
def pytest_runtest_logfinish() -> None:
    if next(_run) % FREEZE_EVERY == 0:
        _freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown() -> None:
    """Reset the language and close connections that are still in a query.

    A test that its time limit interrupted in a query leaves a connection on which every later test would fail.
    """
    translation.deactivate()
    for wrapper in connections.all(initialized_only=True):
        used = wrapper.connection
        if used is not None and used.info.transaction_status == TransactionStatus.ACTIVE:
            used.close()


@pytest.fixture(autouse=True)
def _no_cached_figures() -> None:
    """Invalidate the cached figures of other tests: no event does that when the tables are emptied.

    This process has a cache only while it follows the log, for the tests of sockets.
    """
    from events import freshness
    from metrics.caching import cache

    freshness.LOCAL.refuse_all()
    cache.LOCAL.memory.clear()


@pytest.fixture(scope="session", autouse=True)
def _no_default_rules() -> None:
    """Samplers of tests do not write the default rules: a test with real commits leaves its events in the log."""
    from metrics.monitoring.alerting import defaults

    defaults.SEEDED.set()


DEFAULT_RULE_LEFT = "select stream from events_stream where stream = any(%s) limit 1"
# Tables that the migrations fill and no test changes, and the checkpoints, which get a statement of their own.
KEPT = {"django_content_type", "auth_permission", "events_checkpoint"}
# Tables without a model, besides the log, whose rows would change the result of a later test.
WITHOUT_MODEL = {"events_parked"}
# The log keeps the events of all tests, some of them unreadable: the counters of a later test begin after them.
BEGIN_AFTER = """
with others as (delete from events_checkpoint where name <> %(name)s)
insert into events_checkpoint (name, position, epoch)
select %(name)s, log.position, epoch.epoch
  from (select position from events_event order by position desc limit 1) log, events_epoch epoch
    on conflict (name) do update set position = excluded.position, epoch = excluded.epoch, owner = null,
       leased_until = null, error = null
"""


@pytest.fixture(scope="session", autouse=True)
def _quick_flush() -> Iterator[None]:
    """Truncate only the tables that are not empty after a test with real commits.

    Django truncates every table and sends `post_migrate`, which refills two of them; this costs a hundredth of that.
    """
    from metrics.counters.subscription import SUBSCRIPTION
    from metrics.monitoring.alerting import defaults

    def empty(self: Any) -> None:
        for name in self._databases_names(include_mirrors=False):
            wrapper = connections[name]
            with wrapper.cursor() as cursor:
                known = sorted({*wrapper.introspection.django_table_names(only_existing=True), *WITHOUT_MODEL} - KEPT)
                cursor.execute(" union all ".join(f"(select '{table}' from {table} limit 1)" for table in known))
                if full := [table for (table,) in cursor.fetchall()]:
                    cursor.execute(f"truncate {', '.join(full)} cascade")
                cursor.execute(BEGIN_AFTER, {"name": SUBSCRIPTION.name})
                cursor.execute(DEFAULT_RULE_LEFT, [[f"rule-{name}" for name in defaults.RULES]])
                assert cursor.fetchone() is None, "the test left a default rule in the log, which later tests create"

    patch = pytest.MonkeyPatch()
    patch.setattr(TransactionTestCase, "_fixture_teardown", empty)
    yield
    patch.undo()


@pytest.fixture(scope="session")
def template(django_db_setup: None) -> str:
    """The name of a migrated, empty database to copy; migrating a new one would take seconds."""
    return connection.settings_dict["NAME"] + live.TEMPLATE


@pytest.fixture
def own_database(transactional_db: None, template: str) -> Iterator[None]:
    """A private database: rebuilds read the whole log, and other tests leave events in the shared one."""
    with own_databases.own_database(template):
        yield


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    made = []
    with django_db_blocker.unblock():
        if not connection.settings_dict["NAME"].startswith(
            TEST_DATABASE_PREFIX
        ):  # only tests with a live stack need the rest
            made = setup_databases(verbosity=0, interactive=False)
        name = connection.settings_dict["NAME"]
        connection.close()
        connection.close_pool()
        live.copy_database(name, name + live.TEMPLATE)
    yield
    live.drop_database(name + live.TEMPLATE)
    with django_db_blocker.unblock():
        connection.close()
        connection.close_pool()
        assert live.sessions(name) == [], "nobody closed them, so the database cannot be dropped"
        teardown_databases(made, verbosity=0)


@pytest.fixture(scope="session")
def session_stack(template: str) -> Iterator[live.Stack]:
    """One live stack for this process; tests use `stack`, which restarts what a test stopped."""
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
    session_stack.restart_stopped()


def chromium() -> str | None:
    from metrics.monitoring import machine

    return machine.chromium_path()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A real Chromium.

    Playwright keeps an event loop running in this thread. Between browser tests the loop is hidden, because Django's
    ORM and `asyncio.run` refuse to work under a running loop.
    """
    path = chromium()
    if path is None:
        message = "no Chromium found: install it, or set CHROMIUM to its path"
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(message)
        pytest.skip(message)
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=20_000)  # generous, because a busy machine is not a failure
    driver = sync_playwright().start()
    launched = driver.chromium.launch(executable_path=path, args=CHROMIUM_OPTIONS)
    loop = asyncio._get_running_loop()
    launched.event_loop = loop
    asyncio._set_running_loop(None)
    yield launched
    asyncio._set_running_loop(loop)
    launched.close()
    driver.stop()


@contextlib.contextmanager
def _shown_loop(browser: Any) -> Iterator[None]:
    """Within this context Playwright's event loop is the running one, as its calls need."""
    asyncio._set_running_loop(browser.event_loop)
    try:
        yield
    finally:
        asyncio._set_running_loop(None)


@pytest.fixture(scope="session")
def kept_contexts(browser: Any) -> Iterator[KeptContexts]:
    contexts = KeptContexts(browser)
    yield contexts
    with _shown_loop(browser):
        contexts.close()


@pytest.fixture
def new_page(browser: Any, kept_contexts: KeptContexts, session_stack: live.Stack) -> Iterator[Callable[..., Any]]:
    """Returns a function that opens a page in its own browser context, like another person's browser.

    Options are those of `browser.new_context`: `color_scheme="dark"`, `viewport={...}`, `locale="fr"`,
    `reduced_motion="no-preference"`, `storage_state=…`, `service_workers="allow"`. `role="agent"` signs in and opens
    `at` (no page when it is empty). A script error or a violation of the content security policy fails the test.
    """
    contexts, problems = [], []

    def record_violation(message: Any) -> None:
        if message.type == "error" and "Content Security Policy" in message.text:
            problems.append(message.text)

    def make(role: str | None = None, at: str = "/admin/", **options: Any) -> Any:
        options.setdefault("base_url", session_stack.url)  # or that of a proxy before it
        options.setdefault("service_workers", "block")  # it would download the whole shell for each context
        options.setdefault("reduced_motion", "reduce")  # an animated dot is drawn sixty times a second
        context = kept_contexts.take(options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", record_violation)
        if role:
            given = {
                settings.SESSION_COOKIE_NAME: session_stack.session(role),
                settings.CSRF_COOKIE_NAME: get_random_string(32),
            }
            context.add_cookies([{"name": n, "value": v, "url": session_stack.url} for n, v in given.items()])
            if at:
                page.goto(at)
        return page

    with _shown_loop(browser):
        yield make
        for context in contexts:
            kept_contexts.give_back(context)
    assert not problems, "\n".join(problems)


@pytest.fixture
def page(new_page: Callable[..., Any]) -> Any:
    """One page without a session."""
    return new_page()


def sign_in(page: Any, role: str) -> None:
    """Sign in on the login page."""
    page.goto("/admin/login/")
    page.fill("input[name=username]", role)
    page.fill("input[name=password]", live.PASSWORD)
    page.press("input[name=password]", "Enter")
    page.wait_for_url("**/admin/")
