"""Three-way merge of the changes of two people since a common base. Pure: msgspec and the standard library only.

    policies   how two changes of one field merge; declared as a table beside each record
    merging    merge(base, theirs, mine, table) -> Merge
    rules      checks of the merged record, for edits that are valid only on their own
    resolving  resolve(merge, choices): apply a person's decisions
    changes    diff(before, after, table): differences, for history and messages
    sequences  order and lines
    values     equality, paths, and the records Change, Note, FieldConflict
    paths      read and write a value by its path

`backoffice/static/backoffice/merge.js` is the browser's twin, for previews; both must pass
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
