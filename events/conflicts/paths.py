"""Reads and writes one value of a record by its path, and applies a person's choice between the sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from events import errors
from events.conflicts import changes, policies, values
from events.conflicts.policies import Policy
from events.conflicts.values import UNSET


def chosen(choice: Mapping[str, Any], theirs: Any, mine: Any) -> Any:
    """The value that a choice selects: ``{"take": "theirs" | "mine"}`` or ``{"value": …}``."""
    if "value" in choice:
        return choice["value"]
    return theirs if choice["take"] == "theirs" else mine


Indexes: TypeAlias = dict[tuple[int, str], dict[str, int]]
"""Cached indexes: (identity of the list, property) -> id of an item -> its index."""


def lookup(policy: Policy, record: Any, path: Sequence[str], indexes: Indexes | None = None) -> Any:
    """The value at a path; `UNSET` where the record has no such path.

    With `indexes`, which the caller keeps as long as the record, many lookups in one list cost one pass over it.
    """
    value = record
    for step in path:
        shape = _shape(policy, value)
        if isinstance(value, dict):
            policy, value = shape.of(step), value.get(step, UNSET)
        elif isinstance(value, list | tuple):
            index = _index(shape, value, step) if indexes is None else _indexed(shape, value, indexes).get(step, -1)
            policy = changes.item_policy(shape)
            value = value[index] if index >= 0 else UNSET
        else:
            return UNSET
    return value


def put(policy: Policy, record: Any, path: Sequence[str], value: Any, like: Any = UNSET) -> Any:
    """A copy of the record with the value at a path replaced; `UNSET` removes it.

    A new list item is inserted after the item that it follows in `like`, the version it comes from.
    Raises `InvalidCommand` where the record has no such path.
    """
    if not path:
        return value
    step, rest = path[0], path[1:]
    shape = _shape(policy, record)
    if isinstance(record, dict):
        inside = like.get(step, UNSET) if isinstance(like, dict) else UNSET
        new = put(shape.of(step), record.get(step, UNSET), rest, value, inside)
        return {name: each for name, each in {**record, step: new}.items() if each is not UNSET}
    if isinstance(record, list | tuple):
        return _put_item(shape, list(record), step, rest, value, like)
    raise errors.InvalidCommand(fields={step: "The record has no such path."})


def _put_item(shape: Policy, items: list[Any], step: str, rest: Sequence[str], value: Any, like: Any) -> list[Any]:
    index = _index(shape, items, step)
    source = like if isinstance(like, list | tuple) else []
    source_index = _index(shape, source, step)
    if index >= 0:
        each = changes.item_policy(shape)
        new = put(each, items[index], rest, value, source[source_index] if source_index >= 0 else UNSET)
        return [*items[:index], *([] if new is UNSET else [new]), *items[index + 1 :]]
    if rest:
        raise errors.InvalidCommand(fields={step: "The record has no such path."})
    before = {values.key(_identity(shape, item)) for item in source[: max(source_index, 0)]}
    at = max((i + 1 for i, item in enumerate(items) if values.key(_identity(shape, item)) in before), default=0)
    return [*items[:at], *([] if value is UNSET else [value]), *items[at:]]


def _shape(policy: Policy, value: Any) -> Policy:
    """The policy for the contents of a value, also where the value itself merges as a whole."""
    shape = policies.concrete(policy, value)
    if shape.kind in ("object", "keyed_list"):
        return shape
    return policies.concrete(policies.OPTIONS, value)


def _index(shape: Policy, items: Sequence[Any], step: str) -> int:
    return next((i for i, item in enumerate(items) if values.key(_identity(shape, item)) == step), -1)


def _indexed(shape: Policy, items: Sequence[Any], indexes: Indexes) -> dict[str, int]:
    list_key = (id(items), shape.id)
    if list_key not in indexes:
        found: dict[str, int] = {}
        indexes[list_key] = found
        for index, item in enumerate(items):
            found.setdefault(values.key(_identity(shape, item)), index)
    return indexes[list_key]


def _identity(shape: Policy, item: Any) -> Any:
    return item.get(shape.id) if shape.id and isinstance(item, dict) else item
