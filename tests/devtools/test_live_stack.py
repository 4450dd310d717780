"""The guarantees of the live stack that other tests use."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from tests import live
from tests.conftest import sign_in

pytestmark = pytest.mark.services


def readyz(stack: live.Stack) -> dict[str, Any]:
    with urllib.request.urlopen(f"{stack.url}/readyz", timeout=10) as answer:
        return dict(json.load(answer))


def test_killed_web_process_restarts_on_the_same_address(stack: live.Stack) -> None:
    before = stack.url
    stack.kill_web()
    assert not stack.is_ready()
    stack.start_web()
    assert stack.url == before
    assert readyz(stack)["checks"]["database"] == "ok"


def test_site_without_valkey_is_degraded_but_ready(stack: live.Stack) -> None:
    if stack.valkey is None:
        pytest.skip("REDIS_URL names a server that is not ours to stop")
    stack.valkey.kill()
    said = readyz(stack)
    assert said["status"] == "degraded"
    checks = {name: said["checks"][name] for name in ("database", "valkey", "log", "views")}
    assert checks == {"database": "ok", "valkey": "unreachable", "log": "ok", "views": "ok"}


def test_stack_has_a_login_for_each_role(stack: live.Stack) -> None:
    assert {role for (role,) in stack.query("SELECT role FROM staff")} == set(live.ROLES)


@pytest.mark.browser
def test_person_signs_in_with_a_real_browser(new_page: Callable[..., Any]) -> None:
    page = new_page()
    sign_in(page, "agent")
    assert page.get_by_text("agent").count() > 0
