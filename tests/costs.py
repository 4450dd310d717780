"""Counts operations, for tests of how cost grows with the input. Nothing here measures time."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from benchmarks.growth.counting import rows_read, rows_read_of, statements

__all__ = ["ABOUT_LINEAR", "Counted", "assert_about_linear", "operations", "rows_read", "rows_read_of", "statements"]

# n log n grows by a little more than the factor of the input, n² by its square.
ABOUT_LINEAR: Final = 1.35


class Counted(str):
    """Text that counts its comparisons and hashes, which lists, dicts and sets make in C."""

    __slots__ = ()
    operations = 0

    def __eq__(self, other: object) -> bool:
        Counted.operations += 1
        return str.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        Counted.operations += 1
        return str.__hash__(self)


def operations(function: Callable[[], Any]) -> int:
    """Count the lines of Python that a call executes, and the comparisons of `Counted` text."""
    lines = 0

    def trace(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal lines
        if event == "line":
            lines += 1
        return trace

    before, outer = Counted.operations, sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(outer)
    return lines + Counted.operations - before


def assert_about_linear(cost_of: Callable[[int], int], small: int, *, factor: int = 4) -> None:
    """Assert that `cost_of(size)` grows in proportion to the size, with the slack that n log n needs."""
    cheap, dear = cost_of(small), cost_of(small * factor)
    assert dear <= cheap * factor * ABOUT_LINEAR, f"{small}: {cheap}, {small * factor}: {dear}"
