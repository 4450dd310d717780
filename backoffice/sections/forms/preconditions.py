"""Conditions on other records under which an event may happen, checked in its transaction before the read tables.

Inline projections that a rebuild does not run. Each is one statement for all events of a kind, and locks the rows it
looks at, so that the answer holds until the commit. Nothing waits for it: it travels with the rest of the transaction,
and a refusal ends that.

    a form        its owner is not deleted                                        `owner_deleted`
    a submission  its form is neither deleted nor archived, its owner not deleted  `form_deleted`, `form_archived`, …
    a user        no living user has the mailbox under an older spelling           `rejected`
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, Literal

from backoffice.sections.forms import domain as form_domain
from backoffice.sections.submissions import domain as submission_domain
from backoffice.sections.users import domain as user_domain
from events import errors, store
from events.db import arrays
from events.types import NewEvent

OWNER_LIVING: Final = "select backoffice_owner_living(%s::uuid[])"
FORM_OPEN: Final = "select backoffice_form_open(%s::uuid[], %s::boolean)"
MAILBOX_FREE: Final = "select backoffice_mailbox_free(%s::text[], %s::uuid[])"

MAILBOX_TAKEN: Final = "Another user has this email address."

# Constraint, as the SQL functions name it -> the error for the caller.
REFUSALS: Final = {
    "forms_owner_living": form_domain.OwnerDeleted,
    "submissions_form_living": submission_domain.FormDeleted,
    "submissions_form_open": submission_domain.FormArchived,
    "users_mailbox_once": lambda: errors.Rejected(MAILBOX_TAKEN, {"email": MAILBOX_TAKEN}),
}

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


def users(events: Sequence[NewEvent]) -> None:
    """Nobody else has the mailbox of a new, changed or restored user."""
    if "all" in _waived.get():
        return
    wanted: list[tuple[str | None, str]] = []
    for event in events:
        match event.data:
            case user_domain.UserCreated(email=email):
                wanted.append((email, event.key))
            case user_domain.UserUpdated(email=str() as email):
                wanted.append((email, event.key))
            case user_domain.UserRestored():
                wanted.append((None, event.key))
    if wanted:
        emails, keys = zip(*wanted, strict=True)
        store.execute(MAILBOX_FREE, [list(emails), list(keys)])


def forms(events: Sequence[NewEvent]) -> None:
    """New forms belong to users who are not deleted."""
    owners = {event.data.user_id for event in events if isinstance(event.data, form_domain.FormCreated)}
    if owners and "all" not in _waived.get():
        store.execute(OWNER_LIVING, [arrays.Uuids(owners)])


def submissions(events: Sequence[NewEvent]) -> None:
    """New submissions belong to forms that take some."""
    wanted = {event.data.form_id for event in events if isinstance(event.data, submission_domain.SubmissionReceived)}
    if wanted and "all" not in _waived.get():
        store.execute(FORM_OPEN, [arrays.Uuids(wanted), "archived" in _waived.get()])
