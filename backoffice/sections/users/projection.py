"""Writes events of users into their read table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from backoffice import preconditions, read_table, values
from backoffice.sections.users import domain
from events import store
from events.types import ERASED, NewEvent

MAILBOX_FREE = "select backoffice_mailbox_free(%s::text[], %s::uuid[])"


def users(events: Sequence[NewEvent]) -> None:
    """Updates the table `users`."""
    for kind, batch in read_table.runs(events):
        if kind is domain.UserCreated:
            read_table.insert_all("users", batch, more=_mailbox)
        elif kind is domain.UserUpdated:
            read_table.update_all("users", batch, unique=("email",), more=_mailbox)
        else:
            for event in batch:
                read_table.update("users", event, _user_changes(event.data))


def _mailbox(event: Any) -> dict[str, Any]:
    """Returns the normal form of an address stored in another form; null if they are the same."""
    if not isinstance(event.email, str):
        return {}
    mailbox = values.mailbox(event.email)
    return {"mailbox": None if mailbox == event.email else mailbox}


def _user_changes(event: object) -> dict[str, Any]:
    match event:
        case domain.UserDeleted():
            return {"deleted_at": event.deleted_at}
        case domain.UserRestored():
            return {"deleted_at": None}
        case domain.UserErased():
            blank = {"email": ERASED, "mailbox": None, "first_name": "", "last_name": "", "last_login": None}
            return blank | {"deleted_at": event.deleted_at, "erased_at": event.erased_at}
        case _:
            return {}


def demand_free_mailbox(events: Sequence[NewEvent]) -> None:
    """Requires that no other user has the mailbox of a new, changed or restored user."""
    if preconditions.is_waived("all"):
        return
    wanted: list[tuple[str | None, str]] = []
    for event in events:
        match event.data:
            case domain.UserCreated(email=email):
                wanted.append((email, event.key))
            case domain.UserUpdated(email=str() as email):
                wanted.append((email, event.key))
            case domain.UserRestored():
                wanted.append((None, event.key))
    if wanted:
        emails, keys = zip(*wanted, strict=True)
        store.execute(MAILBOX_FREE, [list(emails), list(keys)])
