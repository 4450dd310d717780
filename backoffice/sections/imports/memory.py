"""Excludes the rows of an import from garbage collection, because they form no cycles."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache


@contextmanager
def uncollected() -> Iterator[None]:
    """Disables the collector while rows are created.

    Scanning hundreds of thousands of objects, all of them in use, would take a third of the time.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@lru_cache(maxsize=1)
def _frozen_for_good() -> bool:
    """True when objects were frozen before the first import, as a server does; counting them takes long."""
    return gc.get_freeze_count() > 0


@contextmanager
def gc_frozen() -> Iterator[Callable[[], object]]:
    """Freezes existing objects so that the collector skips them while rows are written.

    Call the yielded function after each chunk: it collects the chunk's garbage, so that memory does not grow with the
    file. Objects that were frozen before, for example by a server after its start, stay frozen.
    """
    ours = not _frozen_for_good()
    if ours:
        gc.freeze()
    try:
        with uncollected():
            yield gc.collect
    finally:
        if ours:
            gc.unfreeze()
