"""Notifications ask the real rules, silences and alerts, and are sent without Celery and with it."""

from __future__ import annotations

import threading
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from django.utils import translation

from events import commands, store
from events.subscriptions import runner as subscriptions
from metrics.monitoring import sampling
from metrics.monitoring.alerting import models, rules, silences
from metrics.monitoring.notify import (
    alert_source,
    changes,
    muting,
    outside,
    sender,
    sources,
    subscription,
    sweep,
    tasks,
)
from metrics.monitoring.notify.models import Attempt, Delivery
from metrics.monitoring.probes import table
from tests import factories
from tests.metrics.notify import alerts
from tests.metrics.notify.receivers import Receiver

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _real_alerts(world: alerts.World) -> None:
    alert_source.connect()


def rule(**fields: object) -> str:
    """Create a rule; returns its id."""
    key = f"r_{uuid.uuid4().hex[:10]}"
    given = {"title": "Load of the web servers", "metric": "cpu.percent", "warn": 80.0, **fields}
    commands.dispatch(factories.command(rules.CreateRule(**given), key))
    return key


def silence(**fields: object) -> uuid.UUID:
    key = uuid.uuid4()
    commands.dispatch(factories.command(silences.CreateSilence(title="Works", **fields), key))
    return key


def now() -> datetime:
    found: datetime = store.query("select clock_timestamp()")[0][0]
    return found


def test_title_and_channels_of_the_rule_are_used(receiver: Receiver) -> None:
    wanted = alerts.channel(name="Night shift", url=receiver.url)
    boss = alerts.channel(name="Boss", url=receiver.url)
    steps = [rules.Step(minutes=5, channels=["Boss"])]
    key = rule(channels=["Night shift"], escalation=steps)
    alerts.raised(f"{key}:web-1")
    alerts.happen(f"{key}:web-1", alerts.event("escalated"))
    assert [(one.kind, one.channel_id) for one in alerts.deliveries()] == [("firing", wanted), ("escalated", boss)]
    sender.send_due()
    messages = {request.json["data"]["message"] for request in receiver.requests}
    assert "Critical: Load of the web servers (web-1)" in messages
    page = receiver.requests[0].json["data"]["url"]
    assert page.endswith(sources.SOURCES.path(f"{key}:web-1"))


def test_default_rule_is_named_in_the_language_of_the_channel() -> None:
    key = rule()
    models.Rule.objects.filter(pk=key).update(title="Yes")  # a message that is translated
    with translation.override("fr"):
        assert sources.SOURCES.rule(key).title == translation.gettext("Yes") != "Yes"


def test_alert_that_fires_in_a_silence_is_reported_after_it(receiver: Receiver) -> None:
    alerts.channel(url=receiver.url)
    key = rule()
    made = silence(rules=[key], starts_at=now() - timedelta(hours=1), ends_at=now() + timedelta(hours=1))
    alerts.raised(key)
    sweep.sweep(1)
    sender.send_due()
    assert receiver.requests == []
    assert [one.why for one in alerts.deliveries()] == [f"silence:{made}"]
    commands.dispatch(factories.command(silences.DeleteSilence(), made))
    sweep.sweep(2)
    assert sender.send_due() == 1
    assert receiver.requests[0].json["data"]["late"] is True


def test_report_14_maintenance_window_keeps_to_the_local_clock() -> None:
    """uptime-kuma#6233, with a recurring silence as people enter it."""
    key = rule()
    silence(rules=[key], repeat="daily", from_time="02:30", to_time="03:30", zone="Europe/Paris")
    muted = {
        datetime(2026, 3, 28, 1, 45, tzinfo=UTC): True,  # 02:45, winter
        datetime(2026, 3, 29, 0, 45, tzinfo=UTC): False,  # 01:45, before the clocks go forward
        datetime(2026, 3, 29, 1, 15, tzinfo=UTC): True,  # 03:15, after it
        datetime(2026, 3, 29, 1, 45, tzinfo=UTC): False,
        datetime(2026, 3, 30, 0, 45, tzinfo=UTC): True,  # 02:45, summer
        datetime(2026, 10, 25, 0, 45, tzinfo=UTC): True,  # 02:45, the first time
        datetime(2026, 10, 25, 1, 45, tzinfo=UTC): True,  # 02:45, the second time
        datetime(2026, 10, 25, 2, 45, tzinfo=UTC): False,
    }
    assert {at: muting.is_muted(key, 1, "critical", at) for at in muted} == muted


def test_alert_explained_by_another_waits_until_that_ends(receiver: Receiver) -> None:
    alerts.channel(url=receiver.url)
    alerts.raised("valkey_unreachable", episode=7)
    alerts.raised("queue_age", episode=7)
    sender.send_due()
    assert [request.json["data"]["rule"] for request in receiver.requests] == ["valkey_unreachable"]
    alerts.resolved("valkey_unreachable", episode=7)
    sweep.sweep(1)
    sender.send_due()
    assert [request.json["data"]["rule"] for request in receiver.requests[1:]] == ["valkey_unreachable", "queue_age"]
    alerts.resolved("queue_age", episode=7)


def test_closed_alert_is_not_reported_late(receiver: Receiver) -> None:
    key = rule()
    alerts.raised(key)
    alerts.happen(key, alerts.event("closed"))
    alerts.channel(url=receiver.url)
    sweep.sweep(1)
    assert not Delivery.objects.filter(alert=key).exists()


def test_value_of_a_metric_has_its_unit() -> None:
    assert sources.SOURCES.value("cpu.percent", 97.5).replace("\xa0", " ").startswith("97.5")
    assert "%" in sources.SOURCES.value("cpu.percent", 97.5)
    assert sources.SOURCES.value("no.metric", 3.0) == "3"


def test_tick_sweeps_and_samples_the_age_of_deliveries(receiver: Receiver) -> None:
    channel = alerts.channel(url=receiver.url)
    alerts.raised(rule())
    alerts.pass_time(300)
    assert {sweep.sweep, outside.heartbeat} <= set(sampling.STEPS)
    assert outside.watch_database in sampling.WATCHERS
    age = table.PROBES["notifications"](1)["notify.age", ""]
    assert age is not None
    assert age > 299
    changes.delete(channel)


# -- who sends --------------------------------------------------------------------------------------------------------


def test_subscription_sends_soon_after_the_event(receiver: Receiver) -> None:
    alerts.channel(url=receiver.url)
    stop = threading.Event()
    runner = factories.Thread(lambda: subscriptions.run(subscription.SUBSCRIPTION, stop))
    try:
        alerts.raised(rule())
        assert receiver.arrived.get(timeout=30).json["type"] == "alert.firing"
    finally:
        stop.set()
        runner.result()
        with subscription._busy:  # the background thread has ended
            pass


def test_task_sends_what_is_due(receiver: Receiver) -> None:
    alerts.channel(url=receiver.url)
    alerts.raised(rule())
    assert tasks.send_notifications() == 1
    assert tasks.send_notifications() == 0


def test_finished_deliveries_are_forgotten_after_90_days(receiver: Receiver) -> None:
    alerts.channel(url=receiver.url)
    for key in (rule(), rule()):
        alerts.raised(key)
    sender.send_due(1)
    alerts.pass_time(91 * 86_400)
    assert tasks.forget_deliveries() == 1
    assert [one.state for one in alerts.deliveries()] == ["waiting"]
    assert not Attempt.objects.exists()
