from __future__ import annotations

from collections.abc import Iterator

import pytest

from metrics.dashboard import tiles


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    """Forget the last good contents of other tests."""
    tiles.LAST_GOOD.clear()
    yield
    tiles.LAST_GOOD.clear()
