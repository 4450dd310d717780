"""The pages and the API of alerts, rules and silences in use."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.urls import reverse

from events import store
from events.types import new_id
from metrics.monitoring.alerting import dispatching, judge, models, report
from metrics.monitoring.notify import changes
from realtime import publish
from tests.backoffice.api_client import Caller, problem, signed_in
from tests.metrics.alerting.samples import Samples, do

pytestmark = pytest.mark.django_db

METRIC = "cpu.percent"


@pytest.fixture
def admin() -> Caller:
    return signed_in("admin")


def page(caller: Caller, name: str, *args: Any, **query: Any) -> str:
    response = caller.client.get(reverse(f"admin:{name}", args=args), query)
    assert response.status_code == 200, response.content
    return str(response.content.decode())


def form_of(caller: Caller, name: str, *args: Any, **fields: Any) -> Any:
    """Sends the form of a page as the browser would, with these fields changed."""
    shown = caller.client.get(reverse(f"admin:{name}", args=args)).context["form"]
    sent = {
        bound.html_name: bound.value() for bound in shown if bound.value() is not None and bound.value() is not False
    }
    sent |= {"command_id": str(new_id()), **fields}
    return caller.client.post(reverse(f"admin:{name}", args=args), sent)


def test_list_shows_open_pending_and_past_alerts(admin: Caller, samples: Samples, cpu: str) -> None:
    do("rule.update", cpu, {"for_seconds": 60})
    samples.tick(METRIC, [85] * 4)
    assert "No open alerts." in page(admin, "alerts_list")
    samples.tick(METRIC, [99] * 12)
    assert 'data-alert="high_cpu"' in page(admin, "alerts_list")
    assert "Critical" in page(admin, "alerts_list", fragment=1)
    samples.tick(METRIC, [50] * 20)
    shown = page(admin, "alerts_list")
    assert "No open alerts." in shown
    assert "Latest episodes" in shown


def test_bell_counts_by_severity_on_every_page(admin: Caller, samples: Samples, cpu: str) -> None:
    assert 'data-bell="critical" hidden' in page(admin, "backoffice_user_changelist").replace("\n", " ")
    samples.tick(METRIC, [99] * 6)
    shown = page(admin, "backoffice_user_changelist")
    assert "<span data-number>1</span>" in shown
    assert 'role="alert" data-bell-announcer' in shown
    counted = admin.client.get(reverse("admin:alerts_count")).json()
    assert counted == {"critical": 1, "warning": 0, "newest": cpu, "said": "Critical alert: CPU: 99"}
    admin.post(f"alerts/{cpu}/acknowledge/", {"episode": 1})
    assert admin.client.get(reverse("admin:alerts_count")).json()["critical"] == 0


def test_alert_has_a_timeline_a_shaded_chart_and_actions(admin: Caller, samples: Samples, cpu: str) -> None:
    samples.slot -= 40
    samples.tick(METRIC, [50] * 20 + [85] * 30)
    shown = page(admin, "alerts_alert", cpu)
    assert '<rect class="shade shade-warning"' in shown
    assert '<polyline class="values"' in shown
    assert shown.count("<line class=") == 3
    assert "No data since" not in shown
    act = reverse("admin:alerts_act", args=[cpu, "acknowledge"])
    until = datetime.now(ZoneInfo("UTC")) + timedelta(hours=2)
    sent = {"episode": "1", "text": "On it.", "until": f"{until:%Y-%m-%dT%H:%M}"}
    assert "Acknowledged." in admin.client.post(act, sent, follow=True).content.decode()
    row = models.Alert.objects.get(pk=cpu)
    assert (row.owner, row.note) == (f"staff:{admin.person.pk}", "On it.")
    assert "On it." in page(admin, "alerts_alert", cpu)
    comment = reverse("admin:alerts_act", args=[cpu, "comment"])
    assert "<b>" not in admin.client.post(comment, {"text": "<b>bold</b>"}, follow=True).content.decode()
    assert "&lt;b&gt;bold" in page(admin, "alerts_alert", cpu)
    assert admin.client.get(act).status_code == 405
    assert admin.client.get(reverse("admin:alerts_alert", args=["nothing"])).status_code == 404


def test_alert_without_data_says_since_when(admin: Caller, samples: Samples, cpu: str) -> None:
    do("rule.update", cpu, {"on_missing": "raise"})
    samples.tick(METRIC, [50] * 5 + [None] * 30)
    assert "no data" in page(admin, "alerts_alert", cpu)


def test_firing_alert_without_fresh_values_says_since_when(admin: Caller, samples: Samples, cpu: str) -> None:
    """grafana#77800: the alert stays firing, and its page shows since when there are no values."""
    samples.slot -= 50
    samples.tick(METRIC, [85] * 20 + [None] * 30)
    assert "No data since" in page(admin, "alerts_alert", cpu)
    assert models.Alert.objects.get(pk=cpu).state == "firing"


@pytest.mark.parametrize(
    "until", ["2020-01-01T00:00:00Z", "2100-01-01T00:00:00Z", "2020-01-01T00:00:00", "0001-01-01T00:00:00+14:00"]
)
def test_acknowledgement_ends_within_a_week(admin: Caller, samples: Samples, cpu: str, until: str) -> None:
    samples.tick(METRIC, [85] * 6)
    found = problem(admin.post(f"alerts/{cpu}/acknowledge/", {"episode": 1, "until": until}), 422, "invalid")
    assert "until" in found["errors"]


def test_rule_is_created_edited_restored_and_deleted_by_its_pages(admin: Caller, samples: Samples) -> None:
    for name in ("ops", "phone", "boss"):
        changes.write(None, {"name": name, "kind": "email", "recipients": [f"{name}@example.org"]})
    added = form_of(
        admin, "backoffice_rule_add", key="queue_depth", title="Queue", metric="queue.depth", warn="100",
        comparison="above", on_missing="keep", channels="ops, phone", escalation="15: ops\n60: phone, boss",
    )  # fmt: skip
    assert added.status_code == 302, added.context["form"].errors
    row = models.Rule.objects.get(pk="queue_depth")
    assert (row.warn, row.channels, row.enabled) == (100, ["ops", "phone"], True)
    assert row.escalation == [{"minutes": 15, "channels": ["ops"]}, {"minutes": 60, "channels": ["phone", "boss"]}]
    assert form_of(admin, "backoffice_rule_change", "queue_depth", warn="200").status_code == 302
    row.refresh_from_db()
    assert (row.warn, row.version, row.escalation[1]["channels"]) == (200, 2, ["phone", "boss"])
    changed = store.read_stream("rule-queue_depth")[-1].data
    assert changed == {"warn": 200.0, "origin": "person"}
    assert "200" in page(admin, "backoffice_rule_history", "queue_depth")
    undo = reverse("admin:backoffice_rule_rollback", args=["queue_depth", 1])
    assert admin.client.post(undo, {"base_version": "2", "command_id": str(new_id())}).status_code == 302
    row.refresh_from_db()
    assert row.warn == 100
    assert "Queue" in page(admin, "backoffice_rule_changelist")
    assert form_of(admin, "backoffice_rule_delete", "queue_depth").status_code == 302
    assert "Queue" not in page(admin, "backoffice_rule_changelist")


def test_concurrent_edits_of_a_rule_are_merged(admin: Caller, samples: Samples, cpu: str) -> None:
    do("rule.update", cpu, {"warn": 82})
    merged = admin.patch(f"rules/{cpu}/", {"critical": 97}, If_Match='"v1"')
    assert merged.json()["status"] == "merged"
    row = models.Rule.objects.get(pk=cpu)
    assert (row.warn, row.critical) == (82, 97)
    stale = admin.patch(f"rules/{cpu}/", {"warn": 84}, If_Match='"v1"')
    problem(stale, 412, "precondition_failed")


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"warn": None}, "warn"),
        ({"critical": 50}, "critical"),
        ({"clear": 101}, "clear"),
        ({"metric": "CPU"}, "metric"),
        ({"metric": "cpu.precent"}, "metric"),
        ({"per": "requests.counts"}, "per"),
        ({"for_seconds": 99_999}, "for_seconds"),
        ({"escalation": [{"minutes": 5, "channels": []}, {"minutes": 5, "channels": []}]}, "escalation"),
        ({"comparison": "below", "critical": 120}, "critical"),
        ({"id": "Queue"}, "key"),
        ({"id": "preview"}, "key"),
        ({"id": "count"}, "key"),
        ({"title": "Q" * 301}, "title"),
        ({"target": "a:b"}, "target"),
        ({"target": "../x"}, "target"),
        ({"channels": ["nobody"]}, "channels"),
    ],
)
def test_rule_that_contradicts_itself_is_rejected(
    admin: Caller, samples: Samples, fields: dict[str, Any], wrong: str
) -> None:
    data = {"id": "queue", "title": "Queue", "metric": "queue.depth", "warn": 100, "comparison": "above", **fields}
    found = problem(admin.post("rules/", data), 422, "invalid")
    assert set(found["errors"]) == {wrong}


def test_posting_a_record_twice_under_one_key_is_one_record(admin: Caller, samples: Samples) -> None:
    until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    again = str(new_id())
    first = admin.post("silences/", {"title": "Upgrade", "ends_at": until}, Idempotency_Key=again).json()
    second = admin.post("silences/", {"title": "Upgrade", "ends_at": until}, Idempotency_Key=again).json()
    assert (first["status"], second["status"]) == ("applied", "duplicate")
    assert models.Silence.objects.count() == 1
    problem(admin.post("rules/", {"title": "Queue", "metric": "queue.depth", "warn": 1}), 422, "invalid")


def test_silence_is_entered_and_shown_on_the_wall_clock_of_its_zone(admin: Caller, samples: Samples, cpu: str) -> None:
    tomorrow = datetime.now(ZoneInfo("Europe/Paris")).replace(hour=2, minute=30, second=0, microsecond=0)
    tomorrow += timedelta(days=1)
    added = form_of(
        admin, "backoffice_silence_add", title="Upgrade", rules="high_cpu", zone="Europe/Paris", severity="any",
        repeat="once", ends_at=f"{tomorrow:%Y-%m-%dT%H:%M}",
    )  # fmt: skip
    assert added.status_code == 302, added.context["form"].errors
    row = models.Silence.objects.get()
    assert row.ends_at == tomorrow
    assert f'value="{tomorrow:%Y-%m-%dT%H:%M}"' in page(admin, "backoffice_silence_change", row.pk)
    listed = page(admin, "backoffice_silence_changelist")
    assert f">{row.ends_at:%m/%d/%Y} " in listed, "a time to come is no “just now”"
    nothing = form_of(admin, "backoffice_silence_change", row.pk)
    assert nothing.status_code == 302
    row.refresh_from_db()
    assert row.version == 1, "saving without a change is no change"
    samples.tick(METRIC, [85] * 6)
    assert report.shown(report.firing())[0]["silenced_by"] == [row.pk]
    assert "Upgrade" in page(admin, "alerts_list")


NONSENSE = (
    ("ends_at", "9999-12-31T23:59"),
    ("ends_at", "0001-01-01T00:00"),
    ("ends_at", "2020-01-01T00:00"),
    ("ends_at", "2026-13-01T00:00"),
    ("starts_at", "9999-12-31T23:59"),
    ("weekdays", "8"),
    ("rules", "a b, c"),
    ("zone", "../../etc/passwd"),
)


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
def test_silence_form_names_the_field_of_nonsense(admin: Caller, samples: Samples, zone: str) -> None:
    until = f"{datetime.now(UTC) + timedelta(days=2):%Y-%m-%dT%H:%M}"
    for field, text in NONSENSE:
        given = {"zone": zone, "severity": "any", "repeat": "once", "ends_at": until, field: text}
        refused = form_of(admin, "backoffice_silence_add", title="Upgrade", **given)
        assert refused.status_code in (200, 422), (field, text)
        assert refused.context["form"].errors.keys() & {field, "ends_at"}, (field, text)
    assert not models.Silence.objects.exists()


def test_rule_form_names_the_escalation_that_cannot_be(admin: Caller, samples: Samples) -> None:
    for steps in ("x", "5", "0: a", "99999: a", f"{'0' * 5000}1: a", "5: a\n5: b", "5: nobody"):
        refused = form_of(
            admin, "backoffice_rule_add", key="queue_depth", title="Queue", metric="queue.depth", warn="100",
            comparison="above", on_missing="keep", escalation=steps,
        )  # fmt: skip
        assert refused.status_code in (200, 422), steps[-20:]
        assert "escalation" in refused.context["form"].errors, steps[-20:]
    assert not models.Rule.objects.exists()


def test_weekly_maintenance_needs_weekdays_and_times(admin: Caller, samples: Samples) -> None:
    found = problem(admin.post("silences/", {"title": "Upgrade", "repeat": "weekly"}), 422, "invalid")
    assert set(found["errors"]) == {"from_time", "to_time", "weekdays"}
    window = {"repeat": "weekly", "weekdays": [7], "from_time": "02:30", "to_time": "03:30", "zone": "Europe/Paris"}
    assert admin.post("silences/", {"title": "Upgrade", **window}).status_code == 200
    assert "Weekdays" in page(admin, "backoffice_silence_change", models.Silence.objects.get().pk)


def test_each_stored_event_is_announced_once(admin: Caller, samples: Samples, cpu: str, monkeypatch: Any) -> None:
    frames: list[publish.Value] = []
    monkeypatch.setattr(publish, "send", lambda message: frames.append(message) or True)
    samples.tick(METRIC, [99] * 20)
    admin.post(f"alerts/{cpu}/acknowledge/", {"episode": 1})
    assert [(frame.topic, frame.event, frame.data["type"]) for frame in frames] == [
        ("alerts", "system.alert", "alert.raised"),
        ("alerts", "system.alert", "alert.acknowledged"),
    ]
    stored = store.read_stream(f"alert-{cpu}")
    assert [frame.data["position"] for frame in frames] == [event.position for event in stored]
    assert frames[0].data | {"position": 0} == {
        "type": "alert.raised", "severity": "critical", "message": "CPU: 99", "rule": cpu, "alert": cpu, "episode": 1,
        "state": "firing", "value": 99.0, "position": 0,
    }  # fmt: skip


def test_preview_shows_how_often_a_rule_would_have_fired(admin: Caller, samples: Samples, cpu: str) -> None:
    for number in range(600):
        samples.put(METRIC, samples.slot - 600 + number, 90 if number % 200 < 50 else 50)
    found = admin.post("rules/preview/", {"id": cpu, "hours": 1}).json()
    assert found["raised"] == 3
    assert found["messages"] == 6
    assert admin.post("rules/preview/", {"id": cpu, "hours": 1, "data": {"warn": 92}}).json()["raised"] == 0
    assert "It would have fired 3 times in 1 h" in page(admin, "alerts_preview", rule=cpu, hours=1)
    assert "It would have fired 0 times" in page(admin, "alerts_preview", rule=cpu, hours=1, warn=92)
    wrong = admin.client.get(reverse("admin:alerts_preview"), {"rule": cpu, "warn": "99", "critical": "90"})
    assert wrong.status_code == 422
    problem(admin.post("rules/preview/", {"id": "nothing"}), 404, "not_found")
    assert models.Rule.objects.get(pk=cpu).version == 1


@pytest.mark.parametrize("field", ["warn", "for_seconds", "keep_seconds"])
def test_preview_refuses_values_that_are_no_number_of_the_field(
    admin: Caller, samples: Samples, cpu: str, field: str
) -> None:
    for value in ("nan", "inf", "-inf", "1e999", "x", "99999999999999999999", "-1"):
        found = admin.client.get(reverse("admin:alerts_preview"), {"rule": cpu, field: value})
        assert found.status_code == 422, value


def test_states_are_listed_with_those_that_are_pending(samples: Samples, cpu: str) -> None:
    samples.slot = judge.present_slot() - 3
    samples.tick(METRIC, [99] * 3)
    (found,) = report.states()
    assert (found["id"], found["state"], found["severity"], found["of"]) == (cpu, "pending", "critical", 30)


def test_description_names_the_target() -> None:
    row = models.Alert(rule_id="disk_full", target="web-1", value=4.25, reason="threshold")
    assert dispatching.describe(row, "Disk nearly full") == "Disk nearly full (web-1): 4.25"
