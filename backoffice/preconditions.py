"""Conditions on other records under which an event may happen, and where they are waived.

Sections check them in inline projections before the read tables; a rebuild does not run those. Each check is one
statement for all events of a kind, and locks the rows it looks at, so that the answer holds until the commit. Nothing
waits for it: it travels with the rest of the transaction, and a refusal ends that.

    a form        its owner is not deleted                                        `owner_deleted`
    a submission  its form is neither deleted nor archived, its owner not deleted  `form_deleted`, `form_archived`, …
    a user        no living user has the mailbox under an older spelling           `rejected`
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

Waiver = Literal["all", "archived"]
_waived: ContextVar[frozenset[Waiver]] = ContextVar("backoffice_waived", default=frozenset())


@contextmanager
def waived(what: Waiver) -> Iterator[None]:
    """Do not ask in here. ``archived``: old submissions are brought into an archived form. ``all``: history is copied
    from another log, where it happened already."""
    token = _waived.set(_waived.get() | {what})
    try:
        yield
    finally:
        _waived.reset(token)


def is_waived(what: Waiver) -> bool:
    return what in _waived.get()
