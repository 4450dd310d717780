"""Errors of lists: queries that a list does not support, and queries that take too long."""

from __future__ import annotations

from events import errors


class PageError(errors.EventsError):
    """The list does not support this query. `parameter` is the name of the wrong parameter."""

    code = "invalid_query"
    status = 400

    def __init__(self, message: str, parameter: str) -> None:
        super().__init__(message)
        self.parameter = parameter


class UnknownSort(PageError):
    """The list has no such sort."""

    code = "unknown_sort"


class UnknownFilter(PageError):
    """The list has no such filter."""

    code = "unknown_filter"


class InvalidFilter(PageError):
    """The filter does not accept this value."""

    code = "invalid_filter"


class InvalidCursor(PageError):
    """The cursor was altered, or belongs to another list, order or release."""

    code = "invalid_cursor"


class TooSlow(errors.TookTooLong):
    """This list takes too long. Narrow the filters, search for a longer word, or sort by date."""
