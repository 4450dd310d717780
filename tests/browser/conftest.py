"""Pages of people, each in a browser of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests import live
from tests.browser.second_person import SecondPerson


@pytest.fixture
def agent(new_page: Callable[..., Any], stack: live.Stack) -> Any:
    return new_page(role="agent", at="")


@pytest.fixture
def manager(new_page: Callable[..., Any], stack: live.Stack) -> Any:
    return new_page(role="manager", at="")


@pytest.fixture
def admin(new_page: Callable[..., Any], stack: live.Stack) -> Any:
    return new_page(role="admin", at="")


@pytest.fixture
def other(stack: live.Stack) -> SecondPerson:
    """Somebody who saves without a browser."""
    return SecondPerson(stack, "manager")
