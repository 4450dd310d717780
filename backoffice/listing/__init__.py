"""Lists, a page at a time: filters, search, sorting, and an encrypted cursor instead of a page number.

Each kind of record declares what its list can be asked; a name that is not declared is an error that says which. The
admin and the API both read here. `pages` has the steps.
"""

from backoffice.listing.filters import CREATED_FILTERS, LIVING, Filter, boolean, by_uuid, choice, flag
from backoffice.listing.pages import LIMIT, MAX_LIMIT, Page, matching, page
from backoffice.listing.refusals import InvalidCursor, InvalidFilter, PageError, TooSlow, UnknownFilter, UnknownSort
from backoffice.listing.search import MAX_SEARCH
from backoffice.listing.spec import CREATED, SPECS, Sort, Spec, Through
from backoffice.listing.totals import COUNT_CAP, total_of

__all__ = [
    "COUNT_CAP",
    "CREATED",
    "CREATED_FILTERS",
    "LIMIT",
    "LIVING",
    "MAX_LIMIT",
    "MAX_SEARCH",
    "SPECS",
    "Filter",
    "InvalidCursor",
    "InvalidFilter",
    "Page",
    "PageError",
    "Sort",
    "Spec",
    "Through",
    "TooSlow",
    "UnknownFilter",
    "UnknownSort",
    "boolean",
    "by_uuid",
    "choice",
    "flag",
    "matching",
    "page",
    "total_of",
]
