"""Merge policies: tables that say how two concurrent changes of one field merge.

Every policy has a JSON form (`policies_to_json`, `policies_from_json`), so that the browser's preview and the
server use the same table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from events.conflicts import values
from events.conflicts.values import UNSET

KINDS = frozenset(
    {"conflict", "last_write", "counter", "set", "text", "object", "json", "options"}
    | {"keyed_list", "state_machine", "server_only"}
)


class Group(tuple[str, ...]):
    """Fields that are only valid together, such as an amount and its currency; they merge or conflict as one."""

    __slots__ = ()

    def __new__(cls, *fields: str) -> Group:
        return super().__new__(cls, fields)

    @property
    def name(self) -> str:
        return "+".join(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The rule by which two concurrent changes of one field merge.

    kind         one of `KINDS`
    compare      ``exact``, or ``instant``: ISO 8601 times with an offset are equal when they name the same instant
    id           keyed list: the property that identifies an item; "" = items are scalars and identify themselves
    ordered      keyed list: whether the order of items carries meaning
    items        keyed list, object: property -> policy
    default      keyed list, object: policy of every other property; None is `CONFLICT` in a list, `JSON` in an object
    groups       keyed list, object: properties that merge or conflict together
    unique       keyed list: a property no two items may share after merging
    transitions  state machine: state -> allowed next states
    """

    kind: str = "conflict"
    compare: str = "exact"
    id: str = "id"
    ordered: bool = True
    items: Mapping[str, Policy] = field(default_factory=dict)
    default: Policy | None = None
    groups: tuple[Group, ...] = ()
    unique: str | None = None
    transitions: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown conflict policy {self.kind!r}; known: {', '.join(sorted(KINDS))}")
        if self.compare not in ("exact", "instant"):
            raise ValueError(f"unknown comparison {self.compare!r}; known: exact, instant")

    def of(self, name: str) -> Policy:
        """The policy of one property."""
        return self.items.get(name) or self.default or (JSON if self.kind == "object" else CONFLICT)


CONFLICT = Policy()
"""Different values on both sides: a person decides. The default."""
INSTANT = Policy(compare="instant")
"""Like `CONFLICT`, for times: another notation of the same instant is no change."""
LAST_WRITE = Policy(kind="last_write")
"""The later writer wins. For cosmetics only: a colour, a collapsed panel."""
COUNTER = Policy(kind="counter")
"""Both differences are added, also equal ones: two increments by one add two."""
SET = Policy(kind="set")
"""A list without order or duplicates: the additions and removals of both sides are applied."""
TEXT = Policy(kind="text")
"""Long text, merged by lines; changes of adjacent lines are a conflict."""
JSON = Policy(kind="json")
"""Merges by structure: maps by property, lists of strings or of objects with ids by item, others as one value."""
OBJECT = Policy(kind="object")
"""A map, merged property by property, deeply."""
OPTIONS = Policy(kind="options")
"""Choices of a question: a list of scalars, of ``{value, label}``, or a map of settings."""
SERVER_ONLY = Policy(kind="server_only")
"""Set by the server only; a client's value is ignored."""


def StateMachine(transitions: Mapping[str, Sequence[str]]) -> Policy:  # noqa: N802 - reads as a value in a table
    """A status: when both changed it, mine applies if it may follow theirs; otherwise a person decides."""
    return Policy(kind="state_machine", transitions={state: tuple(to) for state, to in transitions.items()})


def KeyedList(  # noqa: N802 - reads as a value in a table
    *,
    id: str = "id",
    ordered: bool = True,
    item_policies: Mapping[str, Policy] | None = None,
    default: Policy | None = None,
    groups: Iterable[Group] = (),
    unique: str | None = None,
) -> Policy:
    """A list of items with stable ids: each item merges separately, by property; a move is one change."""
    return Policy(
        kind="keyed_list",
        id=id,
        ordered=ordered,
        items=dict(item_policies or {}),
        default=default,
        groups=tuple(groups),
        unique=unique,
    )


# -- the policy that fits the values ----------------------------------------------------------------------------------

_ID_CANDIDATES = ("id", "value", "key", "name")


def concrete(policy: Policy, *candidates: Any) -> Policy:
    """The policy that applies to these values: `CONFLICT` where they do not fit the declared one.

    The structure of the values decides what ``json`` and ``options`` mean.
    """
    present = [value for value in candidates if value is not UNSET]
    match policy.kind:
        case "json" | "options":
            return _by_structure(policy, present)
        case "object":
            fits = all(isinstance(value, dict) for value in present)
        case "keyed_list" | "set":
            fits = all(isinstance(value, list | tuple) for value in present)
        case "text":
            fits = all(isinstance(value, str) for value in present)
        case "counter":
            fits = all(values.is_number(value) for value in present)
        case _:
            fits = True
    return policy if fits else CONFLICT


def _by_structure(policy: Policy, present: Sequence[Any]) -> Policy:
    if all(isinstance(value, dict) for value in present):
        return OBJECT
    if not all(isinstance(value, list | tuple) for value in present):
        return CONFLICT
    scalars = str if policy.kind == "json" else (str, int, float)
    # A list of numbers is often a tuple (a position, a range), so only declared options merge item by item.
    if all(isinstance(item, scalars) and item is not True and item is not False for each in present for item in each):
        return _SCALARS if all(_distinct(map(values.key, each)) for each in present) else CONFLICT
    return next((_KEYED[name] for name in _ID_CANDIDATES if all(_keyed_by(name, each) for each in present)), CONFLICT)


def _keyed_by(name: str, items: Sequence[Any]) -> bool:
    return all(isinstance(item, dict) and values.is_id(item.get(name)) for item in items) and _distinct(
        values.key(item[name]) for item in items
    )


def _distinct(keys: Iterable[str]) -> bool:
    seen = list(keys)
    return len(set(seen)) == len(seen)


_SCALARS = KeyedList(id="")
_KEYED = {name: KeyedList(id=name, default=JSON) for name in _ID_CANDIDATES}


# -- JSON form --------------------------------------------------------------------------------------------------------

_DEFAULTS: dict[str, Any] = {
    "compare": "exact", "id": "id", "ordered": True, "items": {}, "default": None, "groups": [], "unique": None,
    "transitions": {},
}  # fmt: skip


def policy_to_json(policy: Policy) -> str | dict[str, Any]:
    """The policy as a string, or as an object when it has options."""
    shown = {
        "compare": policy.compare,
        "id": policy.id,
        "ordered": policy.ordered,
        "items": policies_to_json(policy.items),
        "default": policy_to_json(policy.default) if policy.default else None,
        "groups": [list(group) for group in policy.groups],
        "unique": policy.unique,
        "transitions": {state: list(to) for state, to in policy.transitions.items()},
    }
    options = {name: value for name, value in shown.items() if value != _DEFAULTS[name]}
    return {"kind": policy.kind, **options} if options else policy.kind


def policy_from_json(data: str | Mapping[str, Any]) -> Policy:
    """The inverse of `policy_to_json`; raises ValueError for an unknown kind or option."""
    if isinstance(data, str):
        return Policy(kind=data)
    unknown = set(data) - {"kind", *_DEFAULTS}
    if unknown:
        raise ValueError(f"unknown options of a conflict policy: {', '.join(sorted(unknown))}")
    options = dict(data)
    options["items"] = policies_from_json(options.get("items", {}))
    options["groups"] = groups_from_json(options.get("groups", ()))
    if options.get("default") is not None:
        options["default"] = policy_from_json(options["default"])
    return Policy(**options)


def policies_to_json(policies: Mapping[str, Policy]) -> dict[str, Any]:
    """A table of policies as JSON, for the browser."""
    return {name: policy_to_json(policy) for name, policy in policies.items()}


def policies_from_json(data: Mapping[str, Any]) -> dict[str, Policy]:
    """A table of policies from JSON, as in the shared test vectors."""
    return {name: policy_from_json(policy) for name, policy in data.items()}


def groups_from_json(data: Iterable[Iterable[str]]) -> tuple[Group, ...]:
    """Groups from lists of field names."""
    return tuple(Group(*fields) for fields in data)
