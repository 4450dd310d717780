from __future__ import annotations

from collections.abc import Callable

import pytest

from tests import live
from tests.flows.people import Caller, Person


@pytest.fixture
def person(stack: live.Stack) -> Callable[[str], Person]:
    """Returns a function that signs in a member of staff with a role: `person("manager")`."""
    return lambda role: Person(stack, role)


@pytest.fixture
def program(stack: live.Stack) -> Callable[..., Caller]:
    """Returns a function that creates an API key of a manager: `program("ingest:write", "users:read")`."""

    def create(*scopes: str) -> Caller:
        shown = stack.manage("create_api_key", "flow", "--owner", "manager", "--scopes", ",".join(scopes))
        token = next(word for word in shown.split() if word.startswith("fe_"))
        return Caller(stack, {"Authorization": f"Bearer {token}"})

    return create
