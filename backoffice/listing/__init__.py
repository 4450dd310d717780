"""Lists, a page at a time: filters, search, sorting, and an encrypted cursor instead of a page number.

Each kind of record declares the filters and sorts of its list; other names are errors that quote the name. Admin and
API both use these functions. `pages` has the steps.
"""

from backoffice.listing.filters import CREATED_FILTERS, LIVING, Filter, boolean, by_uuid, choice, flag
from backoffice.listing.pages import LIMIT, MAX_LIMIT, Page, matching, page
from backoffice.listing.refusals import InvalidCursor, InvalidFilter, PageError, TooSlow, UnknownFilter, UnknownSort
from backoffice.listing.search import MAX_SEARCH
from backoffice.listing.spec import CREATED, SPECS, ForeignColumn, Sort, Spec, Through
from backoffice.listing.totals import COUNT_CAP, total_of
from backoffice.listing.tuples import Columns

__all__ = [
    "COUNT_CAP",
    "CREATED",
    "CREATED_FILTERS",
    "LIMIT",
    "LIVING",
    "MAX_LIMIT",
    "MAX_SEARCH",
    "SPECS",
    "Columns",
    "Filter",
    "ForeignColumn",
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
