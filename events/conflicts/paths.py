"""Reading and writing one place of a record by its path, and a person's choice between the sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from events import errors
from events.conflicts import changes, policies, values
from events.conflicts.policies import Policy
from events.conflicts.values import UNSET


def chosen(choice: Mapping[str, Any], theirs: Any, mine: Any) -> Any:
    """The value a choice stands for: ``{"take": "theirs" | "mine"}`` or ``{"value": …}``."""
    if "value" in choice:
        return choice["value"]
    return theirs if choice["take"] == "theirs" else mine


Indexes: TypeAlias = dict[tuple[int, str], dict[str, int]]
"""Of lists that were searched: (identity of the list, property) -> id of an item -> its place."""


def lookup(policy: Policy, record: Any, path: Sequence[str], indexes: Indexes | None = None) -> Any:
    """The value at a place, or `UNSET` where the record has no such place.

    With `indexes`, which the caller keeps for as long as the record, many lookups in one list cost one pass over it.
    """
    value = record
    for step in path:
        shape = _shape(policy, value)
        if isinstance(value, dict):
            policy, value = shape.of(step), value.get(step, UNSET)
        elif isinstance(value, list | tuple):
            place = _place(shape, value, step) if indexes is None else _indexed(shape, value, indexes).get(step, -1)
            policy = changes.item_policy(shape)
            value = value[place] if place >= 0 else UNSET
        else:
            return UNSET
    return value


def put(policy: Policy, record: Any, path: Sequence[str], value: Any, like: Any = UNSET) -> Any:
    """A copy of the record with the value at a place; `UNSET` removes it.

    An item that a list lacks goes after the item that it follows in `like`, the version it comes from.
    Raises `InvalidCommand` where the record has no such place.
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
    raise errors.InvalidCommand(fields={step: "There is no such place in the record."})


def _put_item(shape: Policy, items: list[Any], step: str, rest: Sequence[str], value: Any, like: Any) -> list[Any]:
    place = _place(shape, items, step)
    source = like if isinstance(like, list | tuple) else []
    there = _place(shape, source, step)
    if place >= 0:
        each = changes.item_policy(shape)
        new = put(each, items[place], rest, value, source[there] if there >= 0 else UNSET)
        return [*items[:place], *([] if new is UNSET else [new]), *items[place + 1 :]]
    if rest:
        raise errors.InvalidCommand(fields={step: "There is no such place in the record."})
    before = {values.key(_identity(shape, item)) for item in source[: max(there, 0)]}
    at = max((i + 1 for i, item in enumerate(items) if values.key(_identity(shape, item)) in before), default=0)
    return [*items[:at], *([] if value is UNSET else [value]), *items[at:]]


def _shape(policy: Policy, value: Any) -> Policy:
    """The policy of what is inside a value, whatever the policy of the value itself says."""
    shape = policies.concrete(policy, value)
    if shape.kind in ("object", "keyed_list"):
        return shape
    return policies.concrete(policies.OPTIONS, value)


def _place(shape: Policy, items: Sequence[Any], step: str) -> int:
    return next((i for i, item in enumerate(items) if values.key(_identity(shape, item)) == step), -1)


def _indexed(shape: Policy, items: Sequence[Any], indexes: Indexes) -> dict[str, int]:
    mark = (id(items), shape.id)
    if mark not in indexes:
        places = ((values.key(_identity(shape, item)), place) for place, item in enumerate(items))
        found: dict[str, int] = {}
        indexes[mark] = found
        for key, place in places:
            found.setdefault(key, place)
    return indexes[mark]


def _identity(shape: Policy, item: Any) -> Any:
    return item.get(shape.id) if shape.id and isinstance(item, dict) else item
