"""Judges all rules at a slot. Every step may be repeated, and by several evaluators at once.

    1  defaults   the default rules are written, once for each process
    2  load       rules, alerts and the targets that have values: three statements
    3  windows    the samples of each rule and target
    4  decide     the pure state machine; nearly always there is nothing to do
    5  dispatch   a command whose id follows from alert, episode, slot and event: a second evaluator gets `duplicate`.
                  It decides again on the state that it locked

A rule that fails does not stop the others. Time is the slot, never the clock of this process.
"""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from events import context, errors, store, types
from events.commands import Result
from metrics.monitoring.alerting import conditions, defaults, dispatching, domain, machine, models, rules, windows
from metrics.monitoring.alerting.conditions import SLOT_SECONDS

logger = logging.getLogger(__name__)

NAMESPACE: Final = uuid.UUID("e0a7f5b2-44f9-5d0a-a0a3-0f4a1f0b6c11")
PRESENT = "select floor(extract(epoch from clock_timestamp()) / %s)::bigint"
# Has a value in every slot in which a sampler ran.
SAMPLER: Final = "sampler.seconds"
# An open alert of a target that has had no sample for so long ends: the host or subscription was removed.
GONE_SECONDS: Final = 3600


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """One evaluation: a rule for one target, and the state of its alert."""

    key: str
    rule: rules.Rule
    rule_id: str
    rule_version: int
    target: str
    state: domain.Alert


def judge(slot: int) -> list[Result]:
    """Judges all rules at this slot; returns the results of the commands that had to be sent."""
    with _contained("the default rules"):
        defaults.seed_once()  # 1
    found, orphans = load(slot)  # 2
    samples = _sampled(found, slot)
    results = []
    for subject in found:
        with _contained(subject.key):
            results += judge_one(subject, slot, samples)  # 3, 4, 5
    for key, why in orphans:
        with _contained(key):
            results += _send(key, domain.EndAlert(why=why, slot=slot, by=_editor(key)), slot, "alert.resolved")
    return results


def present_slot() -> int:
    """The current slot, by the clock of the database."""
    return int(store.query(PRESENT, (SLOT_SECONDS,))[0][0])


def load(slot: int) -> tuple[list[Subject], list[tuple[str, domain.Ended]]]:
    """Returns the evaluations, and the open alerts that no rule evaluates any more, with the reason."""
    known = models.by_id(models.Rule.objects.all())
    alerts = models.by_id(models.Alert.objects.all())
    present = windows.targets_of(slot)
    found: list[Subject] = []
    unreadable = set(known)  # a rule of a newer release: its alerts stay as they are
    for row in known.values():
        with _contained(row.pk):
            if row.enabled and row.deleted_at is None:
                found += [_subject(row, target, alerts) for target in _targets(row, present, alerts)]
            unreadable.discard(row.pk)
    judged = {subject.key for subject in found}
    orphans = [
        (key, _why(known, key))
        for key, alert in alerts.items()
        if alert.is_open and key not in judged and domain.parts_of(key)[0] not in unreadable
    ]
    return found, orphans


def judge_one(subject: Subject, slot: int, sampled: Sequence[bool]) -> list[Result]:
    """Judges one rule for one target."""
    command = command_of(subject, slot, sampled)
    decided = machine.judge(command, subject.state)
    if not decided:
        return _end_if_gone(subject, slot)
    name = types.event_type_of(type(decided[0])).name
    return _send(subject.key, command, slot, name, episode=getattr(decided[0], "episode", 0))


def command_of(subject: Subject, slot: int, sampled: Sequence[bool]) -> domain.JudgeAlert:
    """The command that judges a subject at a slot, with the window that it is judged by."""
    seconds = conditions.seconds_needed(subject.rule, flapping=subject.state.flapping)
    window = windows.window(subject.rule, subject.target, seconds, slot)
    changed = subject.state.is_open and subject.state.rule_version != subject.rule_version
    return domain.JudgeAlert(
        rule=subject.rule,
        rule_version=subject.rule_version,
        target=subject.target,
        window=window,
        slot=slot,
        sampled=list(sampled[-len(window) :]),
        changed_by=_editor(subject.key) if changed else None,
    )


# -- loading ----------------------------------------------------------------------------------------------------------


def _subject(row: models.Rule, target: str, alerts: Mapping[str, models.Alert]) -> Subject:
    key = domain.alert_key(row.pk, target)
    alert = alerts.get(key)
    state = domain.Alert() if alert is None else machine.AGGREGATE.load(alert.folded)
    return Subject(key=key, rule=rule_of(row), rule_id=row.pk, rule_version=row.version, target=target, state=state)


def rule_of(row: models.Rule) -> rules.Rule:
    """A row as the state of its rule."""
    names = (name for name in rules.Rule.__struct_fields__ if name not in ("created_at", "deleted_at"))
    return msgspec.convert({name: getattr(row, name) for name in names}, rules.Rule)


def _targets(
    row: models.Rule, present: Mapping[str, Mapping[str, Any]], alerts: Mapping[str, models.Alert]
) -> list[str]:
    if row.target != defaults.EACH:
        return [row.target]
    still_open = {alert.target for alert in alerts.values() if alert.rule_id == row.pk and alert.is_open}
    return sorted(target for target in {*present.get(row.metric, {}), *still_open} if target)


def _why(known: Mapping[str, models.Rule], key: str) -> domain.Ended:
    row = known.get(domain.parts_of(key)[0])
    if row is None or row.deleted_at is not None:
        return "rule_deleted"
    return "target_gone" if row.enabled else "rule_disabled"


def _editor(key: str) -> str | None:
    """The actor of the last change of an alert's rule."""
    stream = types.stream_name(rules.CATEGORY, domain.parts_of(key)[0])
    version = store.version_of(stream)
    last = store.read_stream(stream, version - 1) if version else []
    return last[-1].actor if last else None


def _sampled(found: Sequence[Subject], slot: int) -> list[bool]:
    """Whether a sampler ran, for each slot of the longest window."""
    longest = max((conditions.seconds_needed(one.rule, flapping=True) for one in found), default=0)
    plain = rules.Rule(metric=SAMPLER)
    return [value is not None for value in windows.window(plain, "", longest, slot)] if found else []


# -- ends -------------------------------------------------------------------------------------------------------------


def _end_if_gone(subject: Subject, slot: int) -> list[Result]:
    """Ends the open alert of a target without samples for an hour in which others were sampled."""
    state = subject.state
    if not state.is_open or not subject.target or slot - state.slot < conditions.slots(GONE_SECONDS):
        return []
    if conditions.fresh(windows.window(subject.rule, subject.target, SLOT_SECONDS * conditions.FRESH, slot)):
        return []
    window = windows.window(subject.rule, subject.target, GONE_SECONDS, slot)
    ran = windows.window(rules.Rule(metric=SAMPLER), "", GONE_SECONDS, slot)
    patient = msgspec.structs.replace(subject.rule, missing_seconds=GONE_SECONDS)
    if not conditions.missing(patient, window, [value is not None for value in ran]):
        return []
    return _send(subject.key, domain.EndAlert(why="target_gone", slot=slot), slot, "alert.resolved")


# -- dispatching ------------------------------------------------------------------------------------------------------


def _send(key: str, data: types.CommandData, slot: int, name: str, episode: int | None = None) -> list[Result]:
    """Dispatches as the system. Drops a command if another evaluator used its id with other data."""
    if episode is None:
        episode = models.Alert.objects.values_list("episode", flat=True).get(pk=key)
    command_id = types.named_id(NAMESPACE, f"{key} {episode} {slot} {name}")
    with context.acting(context.Context()):
        try:
            return [dispatching.dispatch(types.Command(id=command_id, key=key, data=data))]
        except errors.IdempotencyKeyReused:
            return []


@contextlib.contextmanager
def _contained(key: str) -> Iterator[None]:
    """Logs the error of one rule instead of raising it; an unreachable database ends the slot."""
    try:
        yield
    except errors.StoreUnavailable:
        raise
    except Exception:
        logger.exception("%s: cannot be judged", key)


def pending(slot: int) -> Iterator[tuple[Subject, conditions.Pending]]:
    """The rules whose value is beyond a level at this slot, but not yet for long enough."""
    for subject in load(slot)[0]:
        if subject.state.is_open:
            continue
        seconds = conditions.seconds_needed(subject.rule)
        found = conditions.pending(subject.rule, windows.window(subject.rule, subject.target, seconds, slot))
        if found is not None:
            yield subject, found
