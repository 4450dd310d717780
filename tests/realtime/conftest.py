from __future__ import annotations

from collections.abc import Iterator

import pytest

from devtools.postgres import Postgres
from tests.events import servers
from tests.realtime import harness


@pytest.fixture(scope="session")
def _server(django_db_setup: None) -> Iterator[harness.Server]:
    with harness.Server(handshakes_per_minute=6000.0, retry_min_ms=5, retry_max_ms=40, beacon_silence=1.5) as running:
        yield running


@pytest.fixture
def server(_server: harness.Server, transactional_db: None) -> harness.Server:
    """A server shared by tests that do not change it; other tests start their own with `harness.Server()`."""
    return _server


@pytest.fixture
def relay(transactional_db: None) -> Iterator[harness.Relay]:
    with harness.Relay() as running:
        yield running


@pytest.fixture
def writer(transactional_db: None) -> Iterator[harness.Writer]:
    with harness.writing() as writer:
        yield writer


@pytest.fixture
def pair(transactional_db: None) -> Iterator[tuple[Postgres, Postgres]]:
    """A primary and its asynchronous standby; this process uses whichever of the two accepts events."""
    with servers.pair() as found:
        yield found


@pytest.fixture
def session(transactional_db: None) -> str:
    """The session key of a signed-in administrator."""
    return harness.sign_in()[1]
