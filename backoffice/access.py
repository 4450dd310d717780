"""Access control: evaluates the rights that sections declare.

Admin, API, history, export and sockets call these functions wherever data leaves or a command arrives, and check
nothing by themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from backoffice import section
from events import types
from events.conflicts import values


def role_of(staff: Any) -> str | None:
    """Returns the effective role: ``admin`` for superusers, None for people without access."""
    if not getattr(staff, "is_active", False) or not getattr(staff, "is_staff", False):
        return None
    return "admin" if staff.is_superuser else staff.role


def role_may(role: str | None, action: str, category: str) -> bool:
    if role == "admin":
        return True
    return action in section.rights(category).get(role or "", frozenset())


def may(staff: Any, action: str, category: str) -> bool:
    """Returns whether this person may do `action` (view, create, update, …) to records of `category`."""
    return role_may(role_of(staff), action, category)


def sees(category: str, staff: Any) -> bool:
    """Returns whether this person may view `category`."""
    return may(staff, "view", category)


def is_admin(staff: Any) -> bool:
    return role_of(staff) == "admin"


def may_resolve(staff: Any) -> bool:
    """Returns whether this person may resolve conflicts: those who may edit any kind whose edits can conflict."""
    return any(may(staff, action, kind.category) for kind in section.kinds() for action in ("update", "set"))


def may_command(staff: Any, command: types.Command) -> str | None:
    """Returns None when this person may send the command, otherwise the action or field that is not permitted."""
    category, _, action = command.type.partition(".")
    if not may(staff, action, category):
        return command.type
    forbidden = read_only_fields(staff, category) | hidden_fields(staff, category)
    touched = forbidden & types.to_builtins(command.data).keys() if action == "update" else frozenset()
    return f"{category}.{sorted(touched)[0]}" if touched else None


def projection_key(staff: Any) -> str:
    """Returns a key that is equal for people who see the same fields; each frame is encoded once per key."""
    return role_of(staff) or "nobody"


def role_hidden_fields(role: str | None, category: str) -> frozenset[str]:
    return section.hidden(role or "", category)


def hidden_fields(staff: Any, category: str) -> frozenset[str]:
    return role_hidden_fields(role_of(staff), category)


def read_only_fields(staff: Any, category: str) -> frozenset[str]:
    kind = section.find(category)
    return kind.read_only.get(role_of(staff) or "", frozenset()) if kind else frozenset()


def may_read_errors(staff: Any) -> bool:
    """Returns whether this person may read errors and tracebacks.

    They can quote any data, so only roles without hidden fields may.
    """
    role = role_of(staff)
    return all(role_may(role, "view", kind.category) and not kind.hidden.get(role or "") for kind in section.kinds())


def redact(staff: Any, category: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `data` of a record or event of `category` without the fields that this person may not see."""
    return role_redact(role_of(staff), category, data)


def role_redact(role: str | None, category: str, data: Mapping[str, Any]) -> dict[str, Any]:
    redact_category = section.redaction(category)
    if redact_category:
        return redact_category(role, data)
    hidden = role_hidden_fields(role, category)
    return {name: value for name, value in data.items() if name not in hidden}


def role_sees(role: str | None, category: str, path: str) -> bool:
    """Returns whether the role may see a path of a record: ``email``, ``fields[q3].label``, a group ``city+zip``."""
    return role_hidden_fields(role, category).isdisjoint(values.steps(path)[0].split("+"))


def redact_conflict(role: str | None, data: Mapping[str, Any]) -> dict[str, Any]:
    """Removes from an event of a conflict all data about its record that the role may not see.

    Everything is removed if the role may not view the kind of record. Comments are removed as soon as a field is
    hidden, because people quote values in them.
    """
    about = types.category_of(data.get("stream", ""))
    if not role_may(role, "view", about):
        return {}
    hidden = role_hidden_fields(role, about)
    shown = {name: value for name, value in data.items() if name != "text" or not hidden}
    for name in ("base", "theirs", "mine", "choices", "values"):
        if name in shown:
            shown[name] = {path: value for path, value in shown[name].items() if role_sees(role, about, path)}
    if "fields" in shown:
        shown["fields"] = [path for path in shown["fields"] if role_sees(role, about, path)]
        shown["conflicts"] = [each for each in shown.get("conflicts", ()) if role_sees(role, about, each["path"])]
    if "command" in shown:
        shown["command"] = {**shown["command"], "data": role_redact(role, about, shown["command"].get("data", {}))}
    return shown


def scopes_allow(scopes: Iterable[str], wanted: str) -> bool:
    """Returns whether the scopes of an API key include `wanted` (``users:read``); a write scope includes reading."""
    resource, _colon, action = wanted.partition(":")
    granted = {"*", wanted, f"{resource}:*"} | ({f"{resource}:write"} if action == "read" else set())
    return not granted.isdisjoint(scopes)
