"""What was stored years ago is read today: a stored sample of each shape an event ever had, and the road to the newest.

A sample is `tests/domain/samples/<type>.<schema version>.json`. Whoever raises a schema version leaves the old sample
as it is and adds one of the new shape; whoever changes a shape without raising it is told so here.
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


def test_every_old_shape_has_a_sample() -> None:
    old = {(known.name, version) for known in types.event_types() for version in range(1, known.schema_version)}
    assert old - SAMPLES.keys() == set()


@pytest.mark.parametrize(("name", "version"), sorted(SAMPLES))
def test_a_stored_event_of_any_age_is_read_without_loss(name: str, version: int) -> None:
    stored, known = read(SAMPLES[name, version]), types.event_type_of(name)
    event = types.decode_event(name, version, dict(stored))
    if version == known.schema_version:
        written = msgspec.json.decode(msgspec.json.encode(event))
        assert written == stored, "another shape is another schema version"
    newest = SAMPLES.get((name, known.schema_version))
    if newest is not None and version < known.schema_version:
        assert types.decode_event(name, known.schema_version, read(newest)) == event, "the same event, as of today"
    for record in aggregate.all_aggregates():
        assert record.evolve(record.initial(), event) is not None, "a state passes over what is not its own"


# -- the road itself ------------------------------------------------------------------------------------------------


@pytest.fixture
def moved() -> Iterator[type[Event]]:
    """An event on its third shape: one name, then two, then two in an object."""

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
        (3, {"names": {"first": "Ada", "last": "Lovelace"}, "since": "unknown properties are passed over"}),
    ],
)
def test_each_shape_takes_the_rest_of_the_road(moved: Any, version: int, stored: dict[str, Any]) -> None:
    expected = moved(names={"first": "Ada", "last": "Lovelace"})
    assert types.decode_event("test.moved", version, stored) == expected


def test_a_shape_of_a_newer_release_and_a_road_with_a_gap_are_refused(moved: Any) -> None:
    with pytest.raises(errors.InvalidEvent, match="newer than this release"):
        types.decode_event("test.moved", 4, {})
    del types.event_type_of("test.moved").upcasters[2]
    with pytest.raises(errors.InvalidEvent, match="no upcaster from schema version 2"):
        types.decode_event("test.moved", 1, {"name": "Ada Lovelace"})
    with pytest.raises(RuntimeError, match="two upcasters"):
        types.upcaster("test.moved", from_version=1)(dict)


def test_no_event_is_work_for_the_garbage_collector() -> None:
    """Every type takes it over from its base; a subclass that holds what can come round again would have to say so."""
    assert [known.name for known in types.event_types() if known.cls.__struct_config__.gc] == []
