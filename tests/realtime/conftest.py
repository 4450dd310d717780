from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.realtime import harness


@pytest.fixture
def server(transactional_db: None) -> Iterator[harness.Server]:
    with harness.Server() as running:
        yield running


@pytest.fixture
def relay(transactional_db: None) -> Iterator[harness.Relay]:
    with harness.Relay() as running:
        yield running


@pytest.fixture
def writer(transactional_db: None) -> Iterator[harness.Writer]:
    with harness.writing() as writer:
        yield writer


@pytest.fixture
def session(transactional_db: None) -> str:
    """The session key of a signed-in administrator."""
    return harness.sign_in()[1]
