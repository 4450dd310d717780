"""Conditions on other records that an event needs, and blocks in which they are waived.

Sections check them in inline projections before the read tables; a rebuild does not run those. Each check is one
statement for all events of a kind, and locks the rows that it reads, so that the result stays valid until the commit.
The statement is pipelined with the rest of the transaction, and a refusal rolls that back.

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
    """Waives conditions inside the block.

    ``archived``: old submissions are imported into an archived form. ``all``: history is copied from another log.
    """
    token = _waived.set(_waived.get() | {what})
    try:
        yield
    finally:
        _waived.reset(token)


def is_waived(what: Waiver) -> bool:
    return what in _waived.get()
