"""Rules for a merged record as a whole, which two edits can break although each is valid on its own.

Each rule (JSON form: `to_json`, `from_json`) is called with the merged record and yields its violations. A domain may
add any function with the same signature, such as a check of current permissions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from typing import Any

from events.conflicts import values
from events.conflicts.values import FieldConflict

Check = Callable[[Mapping[str, Any]], Iterable[FieldConflict]]
"""The merged record -> its violations. The sides of a conflict may be omitted: the merge fills them in."""


@dataclass(frozen=True, slots=True)
class Unique:
    """No two items of a list have the same value of a property. Absent, null and empty values are allowed."""

    list: str
    property: str
    id: str = "id"

    def __call__(self, record: Mapping[str, Any]) -> Iterator[FieldConflict]:
        seen: set[str] = set()
        for key, item in _items(record, self.list, self.id):
            value = item.get(self.property)
            if value is None or value == "":
                continue
            element = values.element(value)
            if element in seen:
                path = values.at_name(_at(self.list, key), self.property)
                yield FieldConflict(path=path, kind="check", code="duplicate")
            seen.add(element)


@dataclass(frozen=True, slots=True)
class References:
    """Every string (or list of strings) under `key`, at any depth of an item, is an id of the list.

    The violation is reported at the reference. Restoring the item that the reference names also corrects it.
    """

    list: str
    key: str
    id: str = "id"

    def __call__(self, record: Mapping[str, Any]) -> Iterator[FieldConflict]:
        items = [*_items(record, self.list, self.id)]
        known = {key for key, _ in items}
        for key, item in items:
            missing: dict[tuple[str, ...], dict[str, None]] = {}
            for names, target in self._named(item, ()):
                if target not in known:
                    missing.setdefault(names, {})[target] = None
            for names, targets in missing.items():
                path = reduce(values.at_name, names, _at(self.list, key))
                also = tuple(_at(self.list, target) for target in targets)
                yield FieldConflict(path=path, kind="check", code="dangling", fields=tuple(targets), also=also)

    def _named(self, value: Mapping[str, Any], names: tuple[str, ...]) -> Sequence[tuple[tuple[str, ...], str]]:
        """The references in an item: the path of each, and the id it names."""
        found: list[tuple[tuple[str, ...], str]] = []
        if not values.may_contain(value, self.key):
            return found
        for name, inside in value.items():
            if name == self.key:
                at, named = (*names, name), inside if isinstance(inside, list | tuple) else [inside]
                found += [(at, values.key(target)) for target in named if values.is_id(target) and target != ""]
            elif isinstance(inside, dict):
                found += self._named(inside, (*names, name))
            elif isinstance(inside, list | tuple) and values.may_contain(inside, self.key):
                # A list inside an item is reported as a whole: its elements need not have an id for a path.
                at = (*names, name)
                for each in inside:
                    if isinstance(each, dict):
                        found += [(at, target) for _, target in self._named(each, at)]
        return found


@dataclass(frozen=True, slots=True)
class Acyclic:
    """The `parent` references contain no cycle: one conflict per cycle, at its first item in the list."""

    list: str
    parent: str = "parent"
    id: str = "id"

    def __call__(self, record: Mapping[str, Any]) -> Iterator[FieldConflict]:
        each = ((key, item.get(self.parent)) for key, item in _items(record, self.list, self.id))
        parents = {key: above for key, above in each if above is not None}
        done: set[str] = set()
        for key in parents:
            trail: dict[str, None] = {}
            current: str | None = key
            while current is not None and current in parents and current not in done and current not in trail:
                trail[current] = None
                above = parents[current]
                current = values.key(above) if values.is_id(above) else None
            if current is not None and current in trail:
                cycle = [*trail][[*trail].index(current) :]
                path, *also = (values.at_name(_at(self.list, item), self.parent) for item in cycle)
                yield FieldConflict(path=path, kind="check", code="cycle", fields=tuple(cycle), also=tuple(also))
            done |= trail.keys()


def _items(record: Mapping[str, Any], name: str, identity: str) -> list[tuple[str, Mapping[str, Any]]]:
    """The items of a list that have an id, as (id, item)."""
    items = record.get(name)
    each = (item for item in items if isinstance(item, dict)) if isinstance(items, list | tuple) else ()
    return [(values.key(item[identity]), item) for item in each if values.is_id(item.get(identity))]


def _at(name: str, item: str) -> str:
    return values.at_item(values.at_name("", name), item)


_KINDS: dict[str, type[Unique] | type[References] | type[Acyclic]] = {
    "unique": Unique, "references": References, "acyclic": Acyclic,
}  # fmt: skip


def to_json(rule: Unique | References | Acyclic) -> dict[str, str]:
    """The rule as JSON, for the browser."""
    return {"kind": type(rule).__name__.lower(), **asdict(rule)}


def from_json(data: Mapping[str, str]) -> Unique | References | Acyclic:
    """The inverse of `to_json`; raises ValueError for an unknown rule."""
    if data.get("kind") not in _KINDS:
        raise ValueError(f"unknown rule {data.get('kind')!r}; known: {', '.join(_KINDS)}")
    return _KINDS[data["kind"]](**{name: value for name, value in data.items() if name != "kind"})
