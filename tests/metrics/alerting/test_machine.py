"""The state machine of an alert against an independent model, over thousands of random histories."""

from __future__ import annotations

import os
import random
from datetime import timedelta
from typing import Any

import pytest

from events import errors, testing
from events.aggregate import Decision
from metrics.monitoring.alerting import conditions, domain, machine
from tests.metrics.alerting import histories
from tests.metrics.alerting.histories import Model, Moment

HISTORIES = 10_000 if os.environ.get("LONG") else 2_000
LENGTH = 150
BATCHES = 8
ACKNOWLEDGED = 30  # slots


class Stream:
    """An alert's stream: events as a reader gets them, and the state that the last writer had."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.state = machine.AGGREGATE.initial()

    def do(self, command: Any, slot: int) -> list[Any]:
        decided = machine.decide(command, self.state, Decision(key="cpu", now=conditions.instant(slot)))
        stored = [testing.stored(event) for event in decided]
        self.events += stored
        self.state = machine.AGGREGATE.fold(stored, self.state)
        return stored


def judged(moment: Moment, seen: list[Moment]) -> domain.JudgeAlert:
    """The command of an evaluator: the window that it reads, missing slots included."""
    length = conditions.slots(conditions.seconds_needed(moment.rule, flapping=True))
    last = seen[-length:]
    padding = length - len(last)
    return domain.JudgeAlert(
        rule=moment.rule,
        rule_version=moment.rule_version,
        target="",
        window=[None] * padding + [each.value for each in last],
        sampled=[False] * padding + [each.sampled for each in last],
        slot=moment.slot,
    )


def act(person: str, stream: Stream, slot: int, model: Model) -> None:
    """Applies an action of a person to stream and model; the stream must refuse exactly what the model forbids."""
    episode = stream.state.episode
    command: Any = {
        "acknowledge": domain.AcknowledgeAlert(
            episode=episode, by="staff:1", until=conditions.instant(slot + ACKNOWLEDGED)
        ),
        "unacknowledge": domain.UnacknowledgeAlert(episode=episode, by="staff:1"),
        "close": domain.CloseAlert(episode=episode, by="staff:1"),
        "comment": domain.CommentAlert(by="staff:1", text="Looking."),
    }[person]
    is_open = model.status != "quiet" if person == "close" else model.status == "firing"
    if episode and (person == "comment" or is_open):
        stream.do(command, slot)
    else:
        with pytest.raises(errors.EventsError):
            stream.do(command, slot)
        return
    if person == "close":
        model.status, model.owned_until = "closed", None
    elif person != "comment":
        model.owned_until = slot + ACKNOWLEDGED if person == "acknowledge" else None


@pytest.mark.parametrize("batch", range(BATCHES))
def test_machine_agrees_with_the_model(batch: int) -> None:
    seen_kinds = set()
    for number in range(HISTORIES // BATCHES):
        seed = batch * 1_000_000 + number
        seen_kinds |= _replay(random.Random(seed), seed)
    assert seen_kinds >= {"raised", "worsened", "eased", "reason_changed", "resolved", "flapping"}
    assert "unacknowledged" in seen_kinds


def _replay(chance: random.Random, seed: int) -> set[str]:
    stream, model, seen, found = Stream(), Model(), [], set()
    for moment in histories.history(chance, LENGTH):
        seen.append(moment)
        model.see(moment)
        if moment.sampled:  # without a sampler nobody judges
            command = judged(moment, seen)
            before = stream.state
            events = stream.do(command, moment.slot)
            expected = model.step(moment)
            where = f"seed {seed}, slot {moment.slot}"
            assert [histories.short(event) for event in events] == ([expected] if expected else []), where
            assert len(events) <= 1, where
            if not conditions.fresh(command.window) and moment.rule.on_missing == "keep":
                assert [histories.short(event) for event in events] in ([], ["unacknowledged expired"]), where
            assert stream.do(command, moment.slot) == [], "a second evaluator adds nothing"
            assert stream.state.slot >= before.slot
            found |= {(expected or "").partition(" ")[0]}
        if moment.person:
            act(moment.person, stream, moment.slot, model)
        assert (stream.state.status, stream.state.episode) == (model.status, model.episode)
        assert (stream.state.owner is not None) == (model.owned_until is not None)
    _check_stream(stream)
    return found


def _check_stream(stream: Stream) -> None:
    """Checks that raised and resolved alternate, episodes count up, slots ascend and folding gives the same state."""
    ends = [type(e) for e in stream.events if isinstance(e, domain.AlertRaised | domain.AlertResolved)]
    assert all(kind is (domain.AlertResolved if n % 2 else domain.AlertRaised) for n, kind in enumerate(ends))
    raised = [event.episode for event in stream.events if isinstance(event, domain.AlertRaised)]
    assert raised == list(range(1, len(raised) + 1))
    slots = [event.slot for event in stream.events if isinstance(getattr(event, "slot", None), int)]
    assert slots == sorted(set(slots))
    assert machine.AGGREGATE.fold(stream.events) == stream.state
    assert machine.AGGREGATE.load(machine.AGGREGATE.dump(stream.state)) == stream.state


def test_acknowledgement_by_default_lasts_longer_for_a_warning() -> None:
    assert {"critical": timedelta(hours=1), "warning": timedelta(hours=8)} == domain.ACKNOWLEDGED_FOR
