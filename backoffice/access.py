"""Who may do what: one table of roles, asked wherever data leaves or a command comes in. Admin, API, history, export
and socket all call here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from events import types
from events.conflicts import values

CATEGORIES: Final = ("user", "form", "submission", "setting")

# role -> category -> actions. `admin` and superusers may everything and are not listed. `system` is the running of it:
# view, replay (parked events), skip, rebuild (read tables), verify (the log).
ROLES: Final[Mapping[str, Mapping[str, frozenset[str]]]] = {
    "manager": {
        "user": frozenset({"view", "create", "update", "delete", "restore"}),
        "form": frozenset({"view", "create", "update", "delete", "restore"}),
        "submission": frozenset({"view", "receive", "delete"}),
        "setting": frozenset({"view"}),
        "event": frozenset({"view"}),
        "system": frozenset({"view", "replay"}),
    },
    "agent": {
        "user": frozenset({"view", "update"}),
        "form": frozenset({"view", "create", "update"}),
        "submission": frozenset({"view"}),
    },
    "viewer": {
        "user": frozenset({"view"}),
        "form": frozenset({"view"}),
        "submission": frozenset({"view"}),
    },
    "dpo": {
        "user": frozenset({"view", "delete", "restore", "erase", "export"}),
        "form": frozenset({"view"}),
        "submission": frozenset({"view", "delete", "erase"}),
        "setting": frozenset({"view"}),
        "event": frozenset({"view"}),
        "system": frozenset({"view", "verify"}),
    },
}

# Fields a role never sees, in no page, history, export or frame.
HIDDEN: Final[Mapping[str, Mapping[str, frozenset[str]]]] = {
    "viewer": {"user": frozenset({"email"}), "submission": frozenset({"answers"})},
}

# Fields a role sees but may not change.
READ_ONLY: Final[Mapping[str, Mapping[str, frozenset[str]]]] = {
    "agent": {"user": frozenset({"plan", "role"})},
}


def role_of(staff: Any) -> str | None:
    """The role that decides: ``admin`` for superusers, None for whoever may not come in at all."""
    if not getattr(staff, "is_active", False) or not getattr(staff, "is_staff", False):
        return None
    return "admin" if staff.is_superuser else staff.role


def role_may(role: str | None, action: str, category: str) -> bool:
    if role == "admin":
        return True
    return action in ROLES.get(role or "", {}).get(category, frozenset())


def may(staff: Any, action: str, category: str) -> bool:
    """May this person do `action` (view, create, update, delete, restore, set …) to records of `category`?"""
    return role_may(role_of(staff), action, category)


def may_command(staff: Any, command: types.Command) -> str | None:
    """None when this person may send the command, else what is in the way: an action or a field."""
    category, _, action = command.type.partition(".")
    if not may(staff, action, category):
        return command.type
    forbidden = read_only_fields(staff, category) | hidden_fields(staff, category)
    touched = forbidden & types.to_builtins(command.data).keys() if action == "update" else frozenset()
    return f"{category}.{sorted(touched)[0]}" if touched else None


def projection_key(staff: Any) -> str:
    """People with the same key see the same fields: what is sent to them is encoded once."""
    return role_of(staff) or "nobody"


def role_hidden_fields(role: str | None, category: str) -> frozenset[str]:
    return HIDDEN.get(role or "", {}).get(category, frozenset())


def hidden_fields(staff: Any, category: str) -> frozenset[str]:
    return role_hidden_fields(role_of(staff), category)


def read_only_fields(staff: Any, category: str) -> frozenset[str]:
    return READ_ONLY.get(role_of(staff) or "", {}).get(category, frozenset())


def may_read_errors(staff: Any) -> bool:
    """Errors and tracebacks quote whatever they failed on: for those from whom nothing at all is hidden."""
    return not HIDDEN.get(role_of(staff) or "") and all(may(staff, "view", category) for category in CATEGORIES)


def redact(staff: Any, category: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """`data` of a record or event of `category` without what this person may not see."""
    return role_redact(role_of(staff), category, data)


def role_redact(role: str | None, category: str, data: Mapping[str, Any]) -> dict[str, Any]:
    if category == "conflict":
        return _redact_conflict(role, data)
    hidden = role_hidden_fields(role, category)
    return {name: value for name, value in data.items() if name not in hidden}


def role_sees(role: str | None, category: str, path: str) -> bool:
    """May the role see what is at this path of a record (``email``, ``fields[q3].label``, a group ``city+zip``)?"""
    return role_hidden_fields(role, category).isdisjoint(values.steps(path)[0].split("+"))


def _redact_conflict(role: str | None, data: Mapping[str, Any]) -> dict[str, Any]:
    """An event of a conflict is about a record: of that, only what the role sees. Nothing at all of a kind of record
    that it may not view; and no comments where something is hidden, for people quote.
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
