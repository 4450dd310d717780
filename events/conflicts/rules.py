"""Rules over a merged record as a whole: what two harmless edits can break together.

Each is a record (JSON form: `to_json`, `from_json`) that is called with the merged record and yields what is wrong.
A domain adds its own as any function of the same shape, such as who may do what *now*.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from typing import Any

from events.conflicts import values
from events.conflicts.values import FieldConflict

Check = Callable[[Mapping[str, Any]], Iterable[FieldConflict]]
"""The merged record -> what is wrong with it. The sides of a conflict may be left out: the merge fills them in."""


@dataclass(frozen=True, slots=True)
class Unique:
    """No two items of a list share a property (a name). Absent, null and empty are not shared."""

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
    """What an item names exists: every string (or list of strings) under `key`, at any depth of the item, is an id of
    the list. The place that names it is at fault; bringing the named item back mends it as well.
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
        """Where in an item something is named, and what."""
        found: list[tuple[tuple[str, ...], str]] = []
        if not values.mentions(value, self.key):
            return found
        for name, inside in value.items():
            if name == self.key:
                at, named = (*names, name), inside if isinstance(inside, list | tuple) else [inside]
                found += [(at, values.key(target)) for target in named if values.is_id(target) and target != ""]
            elif isinstance(inside, dict):
                found += self._named(inside, (*names, name))
            elif isinstance(inside, list | tuple) and values.mentions(inside, self.key):
                # Lists inside an item are reported as a whole: their elements need not have an id to be named by.
                at = (*names, name)
                for each in inside:
                    if isinstance(each, dict):
                        found += [(at, target) for _, target in self._named(each, at)]
        return found


@dataclass(frozen=True, slots=True)
class Acyclic:
    """Following `parent` from item to item never comes round: one conflict a circle, at its first item in the list."""

    list: str
    parent: str = "parent"
    id: str = "id"

    def __call__(self, record: Mapping[str, Any]) -> Iterator[FieldConflict]:
        each = ((key, item.get(self.parent)) for key, item in _items(record, self.list, self.id))
        parents = {key: above for key, above in each if above is not None}
        done: set[str] = set()
        for key in parents:
            trail: dict[str, None] = {}
            here: str | None = key
            while here is not None and here in parents and here not in done and here not in trail:
                trail[here] = None
                above = parents[here]
                here = values.key(above) if values.is_id(above) else None
            if here is not None and here in trail:
                circle = [*trail][[*trail].index(here) :]
                path, *also = (values.at_name(_at(self.list, item), self.parent) for item in circle)
                yield FieldConflict(path=path, kind="check", code="cycle", fields=tuple(circle), also=tuple(also))
            done |= trail.keys()


def _items(record: Mapping[str, Any], name: str, identity: str) -> list[tuple[str, Mapping[str, Any]]]:
    """The items of a list that have an id, with it."""
    items = record.get(name)
    each = (item for item in items if isinstance(item, dict)) if isinstance(items, list | tuple) else ()
    return [(values.key(item[identity]), item) for item in each if values.is_id(item.get(identity))]


def _at(name: str, item: str) -> str:
    return values.at_item(values.at_name("", name), item)


_KINDS: dict[str, type[Unique] | type[References] | type[Acyclic]] = {
    "unique": Unique, "references": References, "acyclic": Acyclic,
}  # fmt: skip


def to_json(rule: Unique | References | Acyclic) -> dict[str, str]:
    """The rule for the browser."""
    return {"kind": type(rule).__name__.lower(), **asdict(rule)}


def from_json(data: Mapping[str, str]) -> Unique | References | Acyclic:
    """The inverse of `to_json`; raises ValueError for a rule it does not know."""
    if data.get("kind") not in _KINDS:
        raise ValueError(f"unknown rule {data.get('kind')!r}; known: {', '.join(_KINDS)}")
    return _KINDS[data["kind"]](**{name: value for name, value in data.items() if name != "kind"})
