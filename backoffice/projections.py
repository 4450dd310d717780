"""Events into read tables, inside the transaction that writes the events. Set-based: a batch is one statement a kind.

Each function takes the events of one category in stream order and is also what a rebuild calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any

import msgspec

from backoffice import values
from backoffice.sections.conflicts import domain as conflict_events
from backoffice.sections.forms import domain as form_events
from backoffice.sections.site_settings import domain as setting_events
from backoffice.sections.submissions import domain as submission_events
from backoffice.sections.users import domain as user_events
from events import store, types
from events.types import ERASED, NewEvent

INSERT_USERS = """
insert into users (id, email, mailbox, first_name, last_name, plan, role, last_login, created_at, version, updated_at)
select id, email, mailbox, first_name, last_name, plan, role, last_login, created_at, version, updated_at
  from jsonb_to_recordset(%s::jsonb) as row(id uuid, email text, mailbox text, first_name text, last_name text,
       plan text, role text, last_login timestamptz, created_at timestamptz, version bigint, updated_at timestamptz)
"""

INSERT_FORMS = """
insert into forms (id, user_id, title, description, fields, archived, created_at, version, updated_at)
select id, user_id, title, description, fields, false, created_at, version, updated_at
  from jsonb_to_recordset(%s::jsonb) as row(id uuid, user_id uuid, title text, description text, fields jsonb,
       created_at timestamptz, version bigint, updated_at timestamptz)
"""

INSERT_SUBMISSIONS = """
insert into submissions (id, form_id, answers, started_at, completion_time, created_at, version, updated_at)
select id, form_id, answers, started_at, completion_time, created_at, version, updated_at
  from jsonb_to_recordset(%s::jsonb) as row(id uuid, form_id uuid, answers jsonb, started_at timestamptz,
       completion_time double precision, created_at timestamptz, version bigint, updated_at timestamptz)
"""

UPSERT_SETTINGS = """
insert into settings (key, value, version, updated_at)
select key, value, version, updated_at
  from jsonb_to_recordset(%s::jsonb) as row(key text, value jsonb, version bigint, updated_at timestamptz)
on conflict (key) do update set value = excluded.value, version = excluded.version, updated_at = excluded.updated_at
"""

INSERT_CONFLICTS = """
insert into conflicts (id, status, category, key, command_type, why, paths, reason, base_version, author, author_name,
       comments, created_at, version, updated_at)
select id, 'open', category, key, command_type, why, paths, reason, base_version, author, author_name,
       0, created_at, version, updated_at
  from jsonb_to_recordset(%s::jsonb) as row(id uuid, category text, key text, command_type text, why text, paths jsonb,
       reason text, base_version bigint, author text, author_name text, created_at timestamptz, version bigint,
       updated_at timestamptz)
"""

COMMENTED = "update conflicts set comments = comments + 1, version = %s, updated_at = %s where id = %s"

# Constraint -> the field it is about and what to say.
CONSTRAINTS = {
    "users_email_once": ("email", "Another user has this email address."),
    "forms_user_id_exists": ("user_id", "There is no such user."),
    "submissions_form_id_exists": ("form_id", "There is no such form."),
}


def users(events: Sequence[NewEvent]) -> None:
    """Keeps `users`."""
    for kind, batch in _runs(events):
        if kind is user_events.UserCreated:
            store.execute(INSERT_USERS, [_rows(batch, more=_mailbox)])
        elif kind is user_events.UserUpdated:
            _update_all("users", batch, unique=("email",), more=_mailbox)
        else:
            for event in batch:
                _update("users", event, _user_changes(event.data))


def _mailbox(event: Any) -> dict[str, Any]:
    """The normal form of an address that an older release stored in another one; null where they are the same."""
    if not isinstance(event.email, str):
        return {}
    mailbox = values.mailbox(event.email)
    return {"mailbox": None if mailbox == event.email else mailbox}


def _user_changes(event: object) -> dict[str, Any]:
    match event:
        case user_events.UserDeleted():
            return {"deleted_at": event.deleted_at}
        case user_events.UserRestored():
            return {"deleted_at": None}
        case user_events.UserErased():
            gone = {"email": ERASED, "mailbox": None, "first_name": "", "last_name": "", "last_login": None}
            return gone | {"deleted_at": event.deleted_at, "erased_at": event.erased_at}
        case _:
            return {}


def forms(events: Sequence[NewEvent]) -> None:
    """Keeps `forms`."""
    for kind, batch in _runs(events):
        if kind is form_events.FormCreated:
            store.execute(INSERT_FORMS, [_rows(batch)])
        elif kind is form_events.FormUpdated:
            _update_all("forms", batch)
        else:
            for event in batch:
                _update("forms", event, _form_changes(event.data))


def _form_changes(event: object) -> dict[str, Any]:
    match event:
        case form_events.FormDeleted():
            return {"deleted_at": event.deleted_at}
        case form_events.FormRestored():
            return {"deleted_at": None}
        case form_events.FormErased():
            return form_events.PERSONAL | {"deleted_at": event.deleted_at, "erased_at": event.erased_at}
        case _:
            return {}


def submissions(events: Sequence[NewEvent]) -> None:
    """Keeps `submissions`."""
    for kind, batch in _runs(events):
        if kind is submission_events.SubmissionReceived:
            store.execute(INSERT_SUBMISSIONS, [_rows(batch)])
        elif kind is submission_events.SubmissionCorrected:
            _update_all("submissions", batch)
        else:
            for event in batch:
                _update("submissions", event, _submission_changes(event))


def _submission_changes(event: NewEvent) -> dict[str, Any]:
    match event.data:
        case submission_events.SubmissionDeleted():
            return {"deleted_at": event.recorded_at}
        case submission_events.SubmissionErased():
            return {"answers": submission_events.NO_ANSWERS}
        case _:
            return {}


def settings(events: Sequence[NewEvent]) -> None:
    """Keeps `settings`."""
    for kind, batch in _runs(events):
        if kind is setting_events.SettingChanged:
            store.execute(UPSERT_SETTINGS, [_rows(_last_of_each(batch), key="key")])
        elif kind is setting_events.SettingRemoved:
            store.execute("delete from settings where key = any(%s)", [[event.key for event in batch]])


def conflicts(events: Sequence[NewEvent]) -> None:
    """Keeps `conflicts`."""
    for kind, batch in _runs(events):
        if kind is conflict_events.ConflictFiled:
            store.execute(INSERT_CONFLICTS, [msgspec.json.encode([_filed(event) for event in batch]).decode()])
            continue
        for event in batch:
            if kind is conflict_events.ConflictCommented:
                store.execute(COMMENTED, [event.version, event.recorded_at, event.key])
            else:
                _update("conflicts", event, _conflict_changes(event))


def _filed(event: NewEvent) -> dict[str, Any]:
    filed: Any = event.data
    return {
        "id": event.key,
        "category": types.category_of(filed.stream),
        "key": types.key_of(filed.stream),
        "command_type": filed.command["type"],
        "why": filed.why,
        "paths": filed.fields,
        "reason": filed.command.get("reason") or "",
        "base_version": filed.base_version,
        "author": filed.author,
        "author_name": filed.author_name or "",
        "created_at": filed.filed_at,
        "version": event.version,
        "updated_at": event.recorded_at,
    }


def _conflict_changes(event: NewEvent) -> dict[str, Any]:
    match event.data:
        case conflict_events.ConflictAssigned(assignee=assignee):
            return {"assignee_id": assignee}
        case conflict_events.ConflictResolved():
            return {"status": "resolved", "closed_at": event.recorded_at}
        case conflict_events.ConflictDismissed():
            return {"status": "dismissed", "closed_at": event.recorded_at}
        case conflict_events.ConflictReopened():
            return {"status": "open", "closed_at": None}
        case _:
            return {}


def _runs(events: Sequence[NewEvent]) -> Iterable[tuple[type, list[NewEvent]]]:
    """The events in order, cut where the kind changes, so that each run can be one statement."""
    return ((kind, list(batch)) for kind, batch in groupby(events, key=lambda event: type(event.data)))


def _last_of_each(events: Sequence[NewEvent]) -> list[NewEvent]:
    return list({event.stream: event for event in events}.values())


def _nothing_more(_data: Any) -> dict[str, Any]:
    return {}


def _rows(events: Sequence[NewEvent], key: str = "id", more: Callable[[Any], dict[str, Any]] = _nothing_more) -> str:
    """The events as one JSON array of rows: what `jsonb_to_recordset` expands. `more` derives columns from an event."""
    rows = []
    for event in events:
        row: dict[str, Any] = {name: getattr(event.data, name) for name in event.data.__struct_fields__}
        row |= {key: event.key, "version": event.version, "updated_at": event.recorded_at, **more(event.data)}
        rows.append(row)
    return msgspec.json.encode(rows).decode()


def _update_all(
    table: str,
    events: Sequence[NewEvent],
    unique: Sequence[str] = (),
    more: Callable[[Any], dict[str, Any]] = _nothing_more,
) -> None:
    """Set what each event changed, all records with the same changed columns in one statement.

    What is changed more than once is folded to what it is in the end. Not so `unique` columns: two records may pass a
    value on, and a statement checks each row as it is written; those go one by one, in order.
    """
    if len(events) == 1:
        _update(table, events[0], values.given(events[0].data) | more(events[0].data))
        return
    rows: dict[str, dict[str, Any]] = {}
    for event in events:
        row = values.given(event.data) | more(event.data)
        for name in [name for name in unique if name in row]:
            store.execute(f"update {table} set {name} = %s where id = %s", [row.pop(name), event.key])  # noqa: S608
        now = {"id": event.key, "version": event.version, "updated_at": event.recorded_at}
        rows.setdefault(event.key, {}).update(row | now)
    alike: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows.values():
        alike.setdefault(tuple(sorted(row)), []).append(row)
    for columns, batch in alike.items():
        settings = ", ".join(f"{name} = row.{name}" for name in columns if name != "id")
        statement = f"""update {table} set {settings} from jsonb_populate_recordset(null::{table}, %s::jsonb) row
                         where {table}.id = row.id"""  # noqa: S608
        store.execute(statement, [msgspec.json.encode(batch).decode()])


def _update(table: str, event: NewEvent, changes: dict[str, Any]) -> None:
    """Set what changed. Column names come from our own event classes, never from outside."""
    row = {name: _parameter(value) for name, value in changes.items()}
    row |= {"version": event.version, "updated_at": event.recorded_at}
    columns = ", ".join(f"{name} = %s" for name in row)
    store.execute(f"update {table} set {columns} where id = %s", [*row.values(), event.key])  # noqa: S608


def _parameter(value: Any) -> Any:
    return msgspec.json.encode(value).decode() if isinstance(value, list | dict) else value
