"""Pages of people, each in a browser of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from devtools import processes
from tests import live
from tests.browser.second_person import SecondPerson
from tests.fault_proxy import FaultProxy


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


@pytest.fixture(scope="session")
def proxy_port() -> int:
    return processes.free_port()


@pytest.fixture
def proxy(stack: live.Stack, proxy_port: int) -> Iterator[FaultProxy]:
    """A network before the server that fails as the test asks."""
    proxy = FaultProxy(stack.port, proxy_port)
    proxy.start()
    yield proxy
    proxy.stop()
