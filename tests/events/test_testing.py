"""given / when / then: a correct expectation passes, and a wrong one fails with a message that names it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
import pytest

from events import errors, testing, types
from events.aggregate import Aggregate, Decision


@types.event_type("lamp.lit")
class Lit(types.Event, frozen=True):
    at: datetime


@types.event_type("lamp.dimmed")
class Dimmed(types.Event, frozen=True):
    to: float = 1.0


@types.event_type("lamp.coloured")
class Coloured(types.Event, frozen=True):
    """An event that does not survive storage: its tuple is read back as a list."""

    rgb: Any


@types.command_type("lamp.light")
class Light(types.CommandData, frozen=True):
    pass


@types.command_type("lamp.dim")
class Dim(types.CommandData, frozen=True):
    to: float


@types.command_type("lamp.colour")
class Colour(types.CommandData, frozen=True):
    pass


@types.command_type("lamp.smash")
class Smash(types.CommandData, frozen=True):
    pass


# Registered only while these tests run, because other tests iterate over all registered types.
REGISTRIES = (types._events, types._event_names, types._commands, types._command_names)
OURS = (Lit, Dimmed, Coloured, Light, Dim, Colour, Smash)


def ours(known: dict[Any, Any]) -> dict[Any, Any]:
    return {name: each for name, each in known.items() if each.cls in OURS}


LAMP_TYPES = [ours(registry) for registry in REGISTRIES]
for registry, own in zip(REGISTRIES, LAMP_TYPES, strict=True):
    for name in own:
        del registry[name]


@pytest.fixture(autouse=True)
def lamp_types(monkeypatch: pytest.MonkeyPatch) -> None:
    for registry, own in zip(REGISTRIES, LAMP_TYPES, strict=True):
        for name, known in own.items():
            monkeypatch.setitem(registry, name, known)


class Lamp(msgspec.Struct, frozen=True):
    lit_at: datetime | None = None
    level: float = 0.0


def evolve(state: Lamp, event: types.Event) -> Lamp:
    match event:
        case Lit():
            return Lamp(event.at, 1.0)
        case Dimmed():
            return Lamp(state.lit_at, event.to)
        case _:
            return state


def decide(command: types.CommandData, state: Lamp, at: Decision) -> Sequence[types.Event]:
    match command:
        case Light():
            return [] if state.lit_at else [Lit(at=at.now)]
        case Dim() if state.lit_at is None:
            raise errors.StreamNotFound("There is no light.")
        case Dim() if not 0 <= command.to <= 1:
            raise errors.InvalidCommand(fields={"to": "Between 0 and 1."})
        case Dim():
            return [Dimmed(to=command.to)]
        case Colour():
            return [Coloured(rgb=(1, 2, 3))]
        case _:
            raise ZeroDivisionError


LAMP = Aggregate(
    category="lamp", state=Lamp, initial=Lamp, evolve=evolve, decide=decide, commands=(Light, Dim, Colour, Smash)
)
given = testing.decider(LAMP)
LIT = Lit(at=testing.NOW)


def test_correct_expectation_passes() -> None:
    given().when(Light()).then(LIT).then_state(lit_at=testing.NOW, level=1.0)
    given(LIT).when(Light()).then_nothing()
    given(LIT).when(Dim(to=2)).then_rejected("Between", field="to").then_rejected("Between 0")
    given().when(Dim(to=1)).then_not_found("no light")
    given().when(Light()).and_given().when(Dim(to=0.5)).then(Dimmed(to=0.5)).then_state(level=0.5)
    assert given(LIT).state == Lamp(testing.NOW, 1.0)


@pytest.mark.parametrize(
    ("claim", "answer"),
    [
        (lambda: given().when(Light()).then(Dimmed()), "decided  Lit.*\nexpected Dimmed"),
        (lambda: given().when(Light()).then(LIT, LIT), "expected Lit.*Lit"),
        (lambda: given().when(Light()).then(), "then_nothing"),
        (lambda: given().when(Light()).then_nothing(), "expected nothing"),
        (lambda: given().when(Light()).then_rejected(), "accepted: Lit"),
        (lambda: given().when(Light()).then_state(level=0.3), "'level': 1.0"),
        (lambda: given().when(Dim(to=1)).then(Dimmed(to=1)), "refused: StreamNotFound"),
        (lambda: given().when(Dim(to=1)).then_rejected(), "not as InvalidCommand"),
        (lambda: given().when(Dim(to=1)).then_nothing(), "refused"),
        (lambda: given().when(Dim(to=1)).and_given(), "refused"),
        (lambda: given(LIT).when(Dim(to=2)).then_rejected("nonsense"), "does not match 'nonsense'"),
        (lambda: given(LIT).when(Dim(to=2)).then_rejected(field="level"), "not for level"),
        (lambda: given(LIT).when(Colour()), "lamp.coloured does not survive being stored"),
        (lambda: given(Coloured(rgb=(1, 2))), "does not survive"),
    ],
)
def test_wrong_expectation_fails_with_an_explanation(claim: Any, answer: str) -> None:
    with pytest.raises(AssertionError, match=answer):
        claim()


def test_unexpected_exception_of_a_decider_is_no_refusal() -> None:
    with pytest.raises(ZeroDivisionError):
        given().when(Smash())


def test_command_of_another_kind_of_record_fails_the_test() -> None:
    from backoffice.sections.users.domain import DeleteUser

    with pytest.raises(AssertionError, match="no command of this record"):
        given().when(DeleteUser())


def test_key_and_time_can_be_chosen() -> None:
    when = datetime.fromisoformat("2030-01-01T00:00:00+00:00")
    testing.decider(LAMP, now=when)().when(Light()).then(Lit(at=when))
