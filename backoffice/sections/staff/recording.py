"""Events about staff logins, appended in the transaction of the change.

A trigger (`sql/staff_changes.function.sql`) records other changes (SQL, `QuerySet.update`) when the transaction
commits. It skips changes whose events were appended here, which `record` marks in the transaction.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Protocol

from django.db import transaction

from backoffice.sections.staff import domain
from events import store, types
from events.types import Event


class Login(Protocol):
    """The fields of `models.Staff` that are recorded."""

    pk: Any
    username: Any
    role: Any
    is_superuser: Any
    is_active: Any
    is_staff: Any

    def save(self, *, update_fields: Iterable[str]) -> None: ...


# Ends with the transaction and is undone by a rollback to a savepoint. The trigger reads it.
NOTE: Final = """
select set_config('backoffice.staff_told', coalesce(current_setting('backoffice.staff_told', true), '') || %s, true)
"""


def stream(login: Login) -> str:
    return types.stream_name(domain.CATEGORY, str(login.pk))


def record(login: Login, *events: Event) -> None:
    """Appends events about a login; call it in the transaction of the change."""
    if events:
        _note(login, *(types.event_type_of(type(event)).name for event in events))
        store.append(stream(login), list(events), store.ANY)


def changes(before: Login | None, after: Login) -> list[Event]:
    """Returns the changes of a login as events. (`models.Staff.save` records a new password.)"""
    if before is None:
        return [domain.StaffCreated(username=after.username, role=after.role, is_superuser=after.is_superuser)]
    found: list[Event] = []
    if (before.role, before.is_superuser) != (after.role, after.is_superuser):
        found.append(domain.StaffRoleChanged(before=before.role, after=after.role, is_superuser=after.is_superuser))
    may_before, may_after = (login.is_active and login.is_staff for login in (before, after))
    if may_before and not may_after:
        found.append(domain.StaffDeactivated())
    if may_after and not may_before:
        found.append(domain.StaffReactivated())
    return found


def save_rehashed(login: Login) -> None:
    """Saves a hash of the same password with the current work factor, without an event: no password changed."""
    with transaction.atomic():
        _note(login, "staff.password_changed")
        login.save(update_fields=["password"])


def _note(login: Login, *names: str) -> None:
    store.execute(NOTE, ("".join(f" {login.pk}:{name} " for name in names),))
