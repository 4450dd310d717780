"""Events stored under any schema version can be read: a stored sample of each version, and its upcasters.

A sample is `tests/domain/samples/<type>.<schema version>.json`. When you raise a schema version, leave the old sample
as it is and add one of the new shape. These tests fail when a shape changes and its schema version does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from events import aggregate, errors, types
from events.types import Event

SAMPLES = {
    (path.stem.rpartition(".")[0], int(path.stem.rpartition(".")[2])): path
    for path in (Path(__file__).parent.parent / "domain" / "samples").glob("*.json")
}


def read(path: Path) -> Any:
    return msgspec.json.decode(path.read_bytes())


def test_every_old_schema_version_has_a_sample() -> None:
    old = {(known.name, version) for known in types.event_types() for version in range(1, known.schema_version)}
    assert old - SAMPLES.keys() == set()


@pytest.mark.parametrize(("name", "version"), sorted(SAMPLES))
def test_stored_sample_is_read_without_loss(name: str, version: int) -> None:
    stored, known = read(SAMPLES[name, version]), types.event_type_of(name)
    event = types.decode_event(name, version, dict(stored))
    if version == known.schema_version:
        written = msgspec.json.decode(msgspec.json.encode(event))
        assert written == stored, "a changed shape needs a new schema version"
    newest = SAMPLES.get((name, known.schema_version))
    if newest is not None and version < known.schema_version:
        assert types.decode_event(name, known.schema_version, read(newest)) == event, (
            "both samples must be the same event"
        )
    for record in aggregate.all_aggregates():
        assert record.evolve(record.initial(), event) is not None, "a state ignores events of other kinds"


# -- upcasting ------------------------------------------------------------------------------------------------------


@pytest.fixture
def moved() -> Iterator[type[Event]]:
    """An event type with schema version 3: one name, then two, then two in an object."""

    class PersonMoved(Event, frozen=True):
        names: dict[str, str]

    types.event_type("test.moved", schema_version=3)(PersonMoved)
    split = lambda old: dict(zip(("first", "last"), old["name"].split(), strict=True))  # noqa: E731
    types.upcaster("test.moved", from_version=1)(split)
    types.upcaster("test.moved", from_version=2)(lambda old: {"names": old})
    yield PersonMoved
    del types._events["test.moved"], types._event_names[PersonMoved]


@pytest.mark.parametrize(
    ("version", "stored"),
    [
        (1, {"name": "Ada Lovelace"}),
        (2, {"first": "Ada", "last": "Lovelace"}),
        (3, {"names": {"first": "Ada", "last": "Lovelace"}, "since": "unknown properties are ignored"}),
    ],
)
def test_each_schema_version_is_upcast_to_the_newest(moved: Any, version: int, stored: dict[str, Any]) -> None:
    expected = moved(names={"first": "Ada", "last": "Lovelace"})
    assert types.decode_event("test.moved", version, stored) == expected


def test_newer_schema_version_and_missing_upcaster_are_rejected(moved: Any) -> None:
    with pytest.raises(errors.InvalidEvent, match="newer than this release"):
        types.decode_event("test.moved", 4, {})
    del types.event_type_of("test.moved").upcasters[2]
    with pytest.raises(errors.InvalidEvent, match="no upcaster from schema version 2"):
        types.decode_event("test.moved", 1, {"name": "Ada Lovelace"})
    with pytest.raises(RuntimeError, match="two upcasters"):
        types.upcaster("test.moved", from_version=1)(dict)


def test_garbage_collector_tracks_no_event() -> None:
    """Every type inherits `gc=False`; a type whose values could form a cycle would have to set `gc=True`."""
    assert [known.name for known in types.event_types() if known.cls.__struct_config__.gc] == []
