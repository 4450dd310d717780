"""The client's address behind proxies."""

from __future__ import annotations

from typing import Any

import pytest

from realtime import proxies
from tests.realtime.harness import run_scenario


@pytest.mark.parametrize(
    ("forwarded", "trusted", "expected"),
    [
        (["203.0.113.9"], 0, "10.0.0.2"),
        (["203.0.113.9"], 1, "203.0.113.9"),
        (["6.6.6.6, 203.0.113.9"], 1, "203.0.113.9"),
        (["6.6.6.6, 10.1.1.1"], 1, "10.1.1.1"),
        (["6.6.6.6", "203.0.113.9"], 1, "203.0.113.9"),
        (["6.6.6.6, 203.0.113.9, 10.0.0.3"], 2, "203.0.113.9"),
        (["203.0.113.9"], 2, "10.0.0.2"),
        ([], 1, "10.0.0.2"),
        (["6.6.6.6, somewhere"], 1, "10.0.0.2"),
        (["6.6.6.6, "], 1, "10.0.0.2"),
        (["203.0.113.9:4711"], 1, "203.0.113.9"),
        (["[2001:db8::1]:4711"], 1, "2001:db8::1"),
        (["2001:DB8::1"], 1, "2001:db8::1"),
    ],
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_client_address_is_the_one_that_the_outermost_trusted_proxy_saw(
    kind: str, forwarded: list[str], trusted: int, expected: str
) -> None:
    seen: list[Any] = []

    async def application(scope: Any, _receive: Any, _send: Any) -> None:
        seen.append(scope["client"][0])

    headers = [(b"host", b"a"), *((b"x-forwarded-for", value.encode()) for value in forwarded)]
    scope = {"type": kind, "client": ("10.0.0.2", 1234), "headers": headers}
    run_scenario(proxies.ClientAddress(application, trusted)(scope, None, None))
    assert seen == [expected]
    assert scope["client"] == ("10.0.0.2", 1234), "the server's own scope stays as it is"
