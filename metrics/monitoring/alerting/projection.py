"""Writes events of rules, silences and alerts into their read tables, in the transaction of the events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from backoffice import read_table
from events import store
from events.types import NewEvent
from metrics.monitoring.alerting import conditions, domain, rules, silences

FOLDED = "select id, folded::text from metrics_alert where id = any(%s)"

UPSERT_ALERTS = """
insert into metrics_alert as a (id, rule_id, target, state, severity, reason, episode, value, since, raised_at,
       resolved_at, why, owner, note, acknowledged_until, step, flapping, slot, folded, version, updated_at)
select id, rule_id, target, state, severity, reason, episode, value, since, raised_at,
       resolved_at, why, owner, note, acknowledged_until, step, flapping, slot, folded, version, updated_at
  from jsonb_populate_recordset(null::metrics_alert, %s::jsonb)
    on conflict (id) do update set state = excluded.state, severity = excluded.severity, reason = excluded.reason,
       episode = excluded.episode, value = excluded.value, since = excluded.since, raised_at = excluded.raised_at,
       resolved_at = excluded.resolved_at, why = excluded.why, owner = excluded.owner, note = excluded.note,
       acknowledged_until = excluded.acknowledged_until, step = excluded.step, flapping = excluded.flapping,
       slot = excluded.slot, folded = excluded.folded, version = excluded.version, updated_at = excluded.updated_at
"""

INSERT_EPISODE = """
insert into metrics_alert_episode (id, alert, episode, severity, raised_at) values (%s, %s, %s, %s, %s)
    on conflict (id) do nothing
"""
WORSEN_EPISODE = "update metrics_alert_episode set severity = %s where id = %s"
END_EPISODE = "update metrics_alert_episode set resolved_at = %s, why = %s where id = %s"


def write_rules(events: Sequence[NewEvent]) -> None:
    """Updates the table `metrics_rule`."""
    for kind, batch in read_table.runs(events):
        if kind is rules.RuleCreated:
            read_table.insert_all("metrics_rule", batch)
        elif kind is rules.RuleRestored:
            for event in batch:
                read_table.update("metrics_rule", event, {"deleted_at": None})
        else:
            read_table.update_all("metrics_rule", batch)


def write_silences(events: Sequence[NewEvent]) -> None:
    """Updates the table `metrics_silence`."""
    for kind, batch in read_table.runs(events):
        if kind is silences.SilenceCreated:
            read_table.insert_all("metrics_silence", batch)
        elif kind is silences.SilenceRestored:
            for event in batch:
                read_table.update("metrics_silence", event, {"deleted_at": None})
        else:
            read_table.update_all("metrics_silence", batch)


def write_alerts(events: Sequence[NewEvent]) -> None:
    """Updates the table `metrics_alert`: folds the events into the state that each row keeps."""
    states = {key: _loaded(text) for key, text in store.query(FOLDED, [list({event.key for event in events})])}
    last: dict[str, NewEvent] = {}
    for event in events:
        states[event.key] = domain.evolve(states.get(event.key) or domain.Alert(), event.data)
        last[event.key] = event
    found = [_row(event, states[key]) for key, event in last.items()]
    store.execute(UPSERT_ALERTS, [read_table.to_json(found)])


def _loaded(text: str) -> domain.Alert:
    return msgspec.json.decode(text, type=domain.Alert)


def _row(event: NewEvent, state: domain.Alert) -> dict[str, Any]:
    names = ("severity", "reason", "episode", "value", "since", "raised_at", "resolved_at", "why", "owner", "note")
    more = ("acknowledged_until", "step", "flapping", "slot")
    rule, target = domain.parts_of(event.key)
    return {
        "id": event.key,
        "rule_id": rule,
        "target": target,
        "state": state.name,
        **{name: getattr(state, name) for name in (*names, *more)},
        "folded": state,
        "version": event.version,
        "updated_at": event.recorded_at,
    }


def write_episodes(events: Sequence[NewEvent]) -> None:
    """Updates the table `metrics_alert_episode`."""
    for event in events:
        data: Any = event.data
        key = f"{event.key}#{data.episode}"
        match data:
            case domain.AlertRaised():
                at = conditions.instant(data.slot)
                store.execute(INSERT_EPISODE, [key, event.key, data.episode, data.severity, at])
            case domain.AlertWorsened() | domain.AlertReasonChanged() if data.severity == "critical":
                store.execute(WORSEN_EPISODE, [data.severity, key])
            case domain.AlertResolved():
                store.execute(END_EPISODE, [conditions.instant(data.slot), data.why, key])
