from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.conf import settings

from events import valkey


def forget() -> None:
    """Delete the values of earlier tests: no event invalidates them when the tables are emptied."""
    client = valkey.client("background")
    for key in client.scan_iter(f"{settings.REDIS_PREFIX}:figures:*"):
        client.delete(key)
    client.close()


@pytest.fixture(autouse=True)
def no_values(transactional_db: None) -> Iterator[None]:
    forget()
    yield
    forget()
