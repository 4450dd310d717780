"""Differences between two versions of a record, by field and list item, with the policies of the merge."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from events import errors
from events.conflicts import policies, sequences, values
from events.conflicts.policies import Policy
from events.conflicts.values import UNSET, Change


def diff(before: Mapping[str, Any], after: Mapping[str, Any], table: Mapping[str, Policy]) -> list[Change]:
    """Every difference between two full records, keyed lists item by item; for history pages and messages.

    A list that breaks its policy (a duplicate id) is compared as one value, so history can show any stored data.
    """
    return _objects(Policy(kind="object", items=table, default=policies.CONFLICT), before, after, "", strict=False)


def between(policy: Policy, before: Any, after: Any, path: str, *, strict: bool = False) -> list[Change]:
    """The differences between two values of one field. `strict` rejects keyed lists with duplicate or missing ids."""
    if values.same(before, after):
        return []
    shape = policies.concrete(policy, before, after)
    if before is UNSET or after is UNSET:
        if strict and shape.kind == "keyed_list":
            indexed(shape, after if before is UNSET else before, path)
        return [Change(path=path, kind="added" if before is UNSET else "removed", before=before, after=after)]
    if shape.kind == "object":
        return _objects(shape, before, after, path, strict=strict)
    if shape.kind == "keyed_list":
        try:
            return _lists(shape, before, after, path, strict=strict)
        except errors.InvalidCommand:
            if strict:
                raise
    alike = values.same(_comparable(shape, before), _comparable(shape, after))
    return [] if alike else [Change(path=path, kind="changed", before=before, after=after)]


def indexed(policy: Policy, items: Any, path: str) -> dict[str, Any]:
    """The items of a keyed list by id. Raises `InvalidCommand` naming the list when an id is missing or duplicate."""
    found: dict[str, Any] = {}
    name = policy.id
    for index, item in enumerate(items):
        identity = item
        if name:
            identity = item.get(name) if isinstance(item, dict) else None
            if not values.is_id(identity):
                raise errors.InvalidCommand(fields={path: f"Item {index + 1} has no {name!r}."})
        key = identity if type(identity) is str else values.key(identity)
        if key in found:
            raise errors.InvalidCommand(fields={path: f"The id {key!r} is there twice."})
        found[key] = item
    return found


def item_policy(policy: Policy) -> Policy:
    """The policy of a keyed list's items: objects, or scalars compared as one value."""
    if not policy.id:
        return policies.CONFLICT
    return Policy(kind="object", items=policy.items, default=policy.default or policies.CONFLICT, groups=policy.groups)


def _objects(
    policy: Policy, before: Mapping[str, Any], after: Mapping[str, Any], path: str, *, strict: bool
) -> list[Change]:
    found: list[Change] = []
    for name in names(before, after):
        a, b = before.get(name, UNSET), after.get(name, UNSET)
        if a is not b and not values.same(a, b):
            found += between(policy.of(name), a, b, values.at_name(path, name), strict=strict)
    return found


def _lists(policy: Policy, before: Any, after: Any, path: str, *, strict: bool) -> list[Change]:
    old, new = indexed(policy, before, path), indexed(policy, after, path)
    each = item_policy(policy)
    found: list[Change] = []
    for key in names(old, new):
        a, b = old.get(key, UNSET), new.get(key, UNSET)
        if not values.same(a, b):
            found += between(each, a, b, values.at_item(path, key), strict=strict)
    if policy.ordered:
        was, now = ({key: index for index, key in enumerate(items)} for items in (old, new))
        for key in sequences.moved(list(old), list(new)):
            found.append(Change(path=values.at_item(path, key), kind="moved", before=was[key], after=now[key]))
    return found


def names(*each: Iterable[str]) -> dict[str, None]:
    """All names, in order of first appearance."""
    return dict.fromkeys(name for known in each for name in known)


def _comparable(policy: Policy, value: Any) -> Any:
    """Converts a value to the form in which its policy compares it."""
    if policy.compare == "instant":
        return values.instant(value)
    if policy.kind == "text":
        return value.replace("\r\n", "\n")
    if policy.kind == "set":
        return sorted({values.element(item) for item in value})
    return value
