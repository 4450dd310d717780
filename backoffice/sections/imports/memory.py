"""An import and Python's collector of cycles: it goes through every row again and again, and there are no cycles."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """While rows are made, hundreds of thousands of objects that are all kept: looking among them for garbage takes a
    third of the time, and finds none.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def set_aside() -> Iterator[Callable[[], object]]:
    """While rows are written: what is there by now is looked at no more. What comes and goes with each chunk is when
    the function is called that this gives, so that memory does not grow with the file.

    Where somebody froze what is there already, such as a server after its start, it is left like that.
    """
    ours = not gc.get_freeze_count()
    if ours:
        gc.freeze()
    try:
        with uncollected():
            yield gc.collect
    finally:
        if ours:
            gc.unfreeze()
