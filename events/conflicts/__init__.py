"""Three-way merge: what two people changed since a common base. Pure: msgspec and the standard library only.

    policies   how two changes of one field meet; declared as a table beside each record
    merging    merge(base, theirs, mine, table) -> Merge
    rules      what two harmless edits can break together
    resolving  resolve(merge, choices): a person decides
    changes    diff(before, after, table): what differs, for history and messages
    sequences  order and lines         values, places   sameness, paths, records of what is said

`backoffice/static/backoffice/merge.js` is the browser's twin, for previews; both are held to
`tests/events/merge_vectors.json`.
"""

from events.conflicts.changes import diff
from events.conflicts.merging import Merge, changed_fields, merge
from events.conflicts.policies import (
    CONFLICT,
    COUNTER,
    INSTANT,
    JSON,
    LAST_WRITE,
    OBJECT,
    OPTIONS,
    SERVER_ONLY,
    SET,
    TEXT,
    Group,
    KeyedList,
    Policy,
    StateMachine,
    groups_from_json,
    policies_from_json,
    policies_to_json,
)
from events.conflicts.resolving import resolve
from events.conflicts.rules import Acyclic, Check, References, Unique
from events.conflicts.values import UNSET, Change, FieldConflict, Note

__all__ = [
    "CONFLICT",
    "COUNTER",
    "INSTANT",
    "JSON",
    "LAST_WRITE",
    "OBJECT",
    "OPTIONS",
    "SERVER_ONLY",
    "SET",
    "TEXT",
    "UNSET",
    "Acyclic",
    "Change",
    "Check",
    "FieldConflict",
    "Group",
    "KeyedList",
    "Merge",
    "Note",
    "Policy",
    "References",
    "StateMachine",
    "Unique",
    "changed_fields",
    "diff",
    "groups_from_json",
    "merge",
    "policies_from_json",
    "policies_to_json",
    "resolve",
]
