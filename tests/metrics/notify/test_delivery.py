"""Deliveries: decided with the event, sent at least once under one id, retried, given up."""

from __future__ import annotations

import threading
import uuid
from typing import Any

import pytest
from django.db import connection, transaction

from metrics.monitoring.notify import changes, planner, queue, sender
from metrics.monitoring.notify.models import Channel
from metrics.monitoring.notify.queue import Answer
from tests import factories
from tests.metrics.notify import alerts, receivers
from tests.metrics.notify.receivers import Receiver, Reply

pytestmark = pytest.mark.django_db(transaction=True)


# -- decided with the event -------------------------------------------------------------------------------------------


def test_delivery_is_stored_with_its_event_or_not_at_all(receiver: Receiver) -> None:
    alerts.channel(url=receiver.url)
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        alerts.raised()
        assert alerts.states() == [("firing", "waiting", "")]
        raise ZeroDivisionError
    assert alerts.states() == []
    alerts.raised()
    assert alerts.states() == [("firing", "waiting", "")]


def test_cause_is_delivered_once_to_each_channel(receiver: Receiver) -> None:
    for _ in range(2):
        alerts.channel(url=receiver.url)
    alerts.raised()
    with transaction.atomic():  # the same cause again
        cause = alerts.deliveries()[0].cause
        message = planner.Message(
            alert="high_cpu", episode=1, cause=cause, kind="firing", severity="critical", facts={}
        )
        for one in planner.lock_channels().values():
            planner._insert(one, message)
    assert len(alerts.deliveries()) == 2
    assert sender.send_due() == 2
    assert len(set(receiver.ids)) == 2


def test_channel_for_critical_alerts_gets_no_warning(receiver: Receiver) -> None:
    critical = alerts.channel(url=receiver.url, min_severity="critical")
    everything = alerts.channel(url=receiver.url)
    alerts.raised(severity="warning")
    assert [one.channel_id for one in alerts.deliveries()] == [everything]
    alerts.happen("high_cpu", alerts.event("worsened", severity="critical"))
    assert {one.channel_id for one in alerts.deliveries(kind="worsened")} == {critical, everything}


def test_rule_chooses_channels_by_name(receiver: Receiver, world: alerts.World) -> None:
    night = alerts.channel(name="Night", url=receiver.url)
    boss = alerts.channel(name="Boss", url=receiver.url)
    rule = world.rule("high_cpu")
    world.rules["high_cpu"] = type(rule)(id=rule.id, title="CPU", channels=["Night"], escalation=[["Boss"]])
    alerts.raised()
    alerts.happen("high_cpu", alerts.event("escalated", step=1))
    assert [(one.kind, one.channel_id) for one in alerts.deliveries()] == [("firing", night), ("escalated", boss)]
    changes.delete(night)
    alerts.raised(episode=2)
    assert [one.channel_id for one in alerts.deliveries(episode=2)] == [boss], "a rule does not fall silent"


def test_events_that_notify_nobody_write_no_delivery(receiver: Receiver) -> None:
    alerts.channel(url=receiver.url)
    alerts.raised()
    for name in ("eased", "acknowledged", "commented", "reason_changed"):
        more = {"text": "x"} if name == "commented" else {"until": alerts.SINCE} if name == "acknowledged" else {}
        alerts.happen("high_cpu", alerts.event(name, **more))
    assert [one.kind for one in alerts.deliveries()] == ["firing"]


def test_resolved_goes_to_those_who_were_notified(receiver: Receiver) -> None:
    told = alerts.channel(url=receiver.url)
    alerts.raised()
    sender.send_due()
    alerts.channel(url=receiver.url)
    alerts.resolved()
    alerts.resolved()  # a second event causes no second message
    assert [(one.kind, one.channel_id) for one in alerts.deliveries()] == [("firing", told), ("resolved", told)]
    assert sender.send_due() == 1
    assert [request.json["type"] for request in receiver.requests] == ["alert.firing", "alert.resolved"]


def test_resolved_alert_that_was_never_reported_is_not_sent(receiver: Receiver) -> None:
    alerts.channel(url=receiver.url)
    receiver.replies = receivers.replies(500)
    alerts.raised()
    sender.send_due()
    alerts.resolved()
    assert sender.send_due() == 0
    assert alerts.states() == [("firing", "dropped", "superseded"), ("resolved", "dropped", "never_notified")]
    assert len(receiver.requests) == 1


def test_resolved_is_sent_where_the_first_message_may_have_arrived(receiver: Receiver) -> None:
    alerts.channel(url=receiver.url)
    receiver.replies = [Reply(hang_up=True)]
    alerts.raised()
    assert sender.send_due() == 0
    (first,) = alerts.deliveries()
    assert [one.outcome for one in alerts.attempts(first)] == ["unknown"]
    alerts.resolved()
    assert sender.send_due() == 1
    assert receiver.requests[-1].json["type"] == "alert.resolved"


def test_closed_alert_sends_no_more_until_it_is_resolved(receiver: Receiver) -> None:
    alerts.channel(url=receiver.url)
    receiver.replies = [Reply(hang_up=True)]
    alerts.raised()
    sender.send_due()
    alerts.happen("high_cpu", alerts.event("closed"))
    alerts.pass_time(60)
    assert sender.send_due() == 0
    alerts.resolved()
    assert sender.send_due() == 1
    assert alerts.states() == [("firing", "dropped", "closed"), ("resolved", "delivered", "")]


# -- retries ----------------------------------------------------------------------------------------------------------


def test_report_7_slow_failing_receiver_and_two_senders_deliver_once(receiver: Receiver) -> None:
    """alertmanager#3865: after failed attempts both peers delivered."""
    alerts.channel(url=receiver.url)
    alerts.raised()
    for _ in range(6):
        answer = threading.Event()
        receiver.replies = [Reply(500, wait=answer), Reply(500)]
        first = factories.Thread(sender.send_due)
        receiver.arrived.get(timeout=10)
        alerts.pass_time(61)  # the lease expires before the receiver answers
        assert sender.send_due() == 0  # the second sender takes over, and fails too
        receiver.arrived.get(timeout=10)
        answer.set()
        assert first.result() == 0  # a late failure of the first changes nothing
        alerts.pass_time(3600)
        store_expiry()
    assert sender.send_due() == 1
    assert sender.send_due() == 0
    (delivery,) = alerts.deliveries()
    assert set(receiver.ids) == {str(delivery.message_id)}
    assert len(receiver.ids) == 13
    assert [one.outcome for one in alerts.attempts(delivery)] == ["failed"] * 12 + ["delivered"]
    assert delivery.delivered_at is not None


def store_expiry() -> None:
    """Keep deliveries from being given up while a test lets hours pass."""
    with connection.cursor() as cursor:
        cursor.execute("update metrics_delivery set expires_at = clock_timestamp() + interval '6 hours'")


def test_late_success_of_an_expired_lease_counts_once(receiver: Receiver) -> None:
    alerts.channel(url=receiver.url)
    alerts.raised()
    answer = threading.Event()
    receiver.replies = [Reply(200, wait=answer)]
    first = factories.Thread(sender.send_due)
    receiver.arrived.get(timeout=10)
    alerts.pass_time(61)
    assert sender.send_due() == 1
    (delivery,) = alerts.deliveries()
    delivered_at = delivery.delivered_at
    answer.set()
    assert first.result() == 1
    (delivery,) = alerts.deliveries()
    assert delivery.delivered_at == delivered_at
    assert [one.outcome for one in alerts.attempts(delivery)] == ["delivered", "delivered"]
    assert len(set(receiver.ids)) == 1


def test_two_senders_share_deliveries_without_repetition(receiver: Receiver) -> None:
    for _ in range(4):
        alerts.channel(url=receiver.url)
    for number in range(10):
        alerts.raised(f"rule_{number}")
    senders = [factories.Thread(lambda: sender.send_due(100)) for _ in range(4)]
    assert sum(one.result() for one in senders) == 40
    assert len(receiver.ids) == len(set(receiver.ids)) == 40


def test_delays_grow_and_a_receiver_may_ask_for_more() -> None:
    assert [queue.delay(attempt) for attempt in range(1, 9)] == [5, 30, 120, 600, 1800, 3600, 3600, 3600]
    assert queue.delay(1, 90.0) == 90.0
    assert queue.delay(3, 1.0) == 120
    assert queue.delay(1, 10.0**9) == 3600, "the receiver cannot postpone for ever"


@pytest.mark.parametrize("status", [301, 302, 307, 400, 404, 429, 500, 502, 503, 504])
def test_every_answer_but_success_is_retried(status: int, receiver: Receiver) -> None:
    alerts.channel(url=receiver.url)
    receiver.replies = [Reply(status, {"Location": f"{receiver.url}/elsewhere"})]
    alerts.raised()
    assert sender.send_due() == 0
    assert sender.send_due() == 0, "it waits for its delay"
    assert alerts.states() == [("firing", "waiting", "")]
    alerts.pass_time(5)
    assert sender.send_due() == 1
    assert [request.path for request in receiver.requests] == ["/", "/"], "no redirect is followed"
    assert len(set(receiver.ids)) == 1


def test_retry_after_is_obeyed(receiver: Receiver) -> None:
    alerts.channel(url=receiver.url)
    date = {"Date": "Fri, 02 Jan 2026 03:04:05 GMT", "Retry-After": "Fri, 02 Jan 2026 03:14:05 GMT"}
    receiver.replies = [Reply(429, {"Retry-After": "300"}), Reply(503, date)]
    alerts.raised()
    sender.send_due()
    alerts.pass_time(299)
    assert sender.send_due() == 0
    assert len(receiver.requests) == 1
    alerts.pass_time(1)
    sender.send_due()
    assert len(receiver.requests) == 2
    alerts.pass_time(590)
    sender.send_due()
    assert len(receiver.requests) == 2, "a date counts from the receiver's own"
    alerts.pass_time(10)
    assert sender.send_due() == 1


def test_delivery_is_given_up_after_six_hours(receiver: Receiver) -> None:
    alerts.channel(url=receiver.url)
    receiver.by_default = Reply(500)
    alerts.raised()
    sender.send_due()
    alerts.pass_time(6 * 3600 + 1)
    assert sender.send_due() == 0
    assert alerts.states() == [("firing", "failed", "gave_up")]
    assert len(receiver.requests) == 1


def test_failed_delivery_is_sent_again_by_hand_under_its_id(receiver: Receiver) -> None:
    alerts.channel(url=receiver.url)
    receiver.replies = receivers.replies(500)
    alerts.raised()
    sender.send_due()
    alerts.pass_time(7 * 3600)
    sender.send_due()
    (delivery,) = alerts.deliveries()
    changes.retry(delivery.pk)
    assert sender.send_due() == 1
    assert len(set(receiver.ids)) == 1
    with pytest.raises(changes.NotRetryable):
        changes.retry(delivery.pk)


def test_failing_channel_does_not_delay_the_others(receiver: Receiver) -> None:
    bad, good = alerts.channel(url=f"{receiver.url}/bad"), alerts.channel(url=f"{receiver.url}/good")
    Channel.objects.filter(pk=bad).update(failures=3)
    receiver.replies = [*receivers.replies(200, 200, 200, 500)]
    for number in range(3):
        alerts.raised(f"rule_{number}")
    assert sender.send_due() == 3
    assert [request.path for request in receiver.requests] == ["/good"] * 3 + ["/bad"], "and is tried once"
    assert {one.channel_id for one in alerts.deliveries(state="delivered")} == {good}


def test_age_is_that_of_the_oldest_delivery_that_nobody_tried(receiver: Receiver) -> None:
    channel = alerts.channel(url=receiver.url)
    assert queue.age() == 0.0
    alerts.raised()
    alerts.pass_time(300)
    assert queue.age() > 299
    changes.pause(channel)
    assert queue.age() == 0.0
    changes.resume(channel)
    receiver.replies = receivers.replies(500)
    sender.send_due()
    assert queue.age() == 0.0, "a receiver that fails is no late sender"


# -- pausing ----------------------------------------------------------------------------------------------------------


def fail(channel: Any, times: int) -> None:
    others = [pk for pk in Channel.objects.values_list("pk", flat=True) if pk != channel]
    for _ in range(times):
        alerts.raised(f"rule_{uuid.uuid4().hex}")
        batch = queue.claim("test", without=others)
        assert batch is not None
        queue.mark(batch, Answer(outcome="failed", detail="HTTP 500"))


def test_channel_is_paused_after_twenty_failures_and_another_reports_it(receiver: Receiver) -> None:
    bad, good = alerts.channel(name="Bad", url=receiver.url), alerts.channel(url=receiver.url)
    fail(bad, 19)
    assert Channel.objects.get(pk=bad).paused_at is None
    fail(bad, 1)
    paused = Channel.objects.get(pk=bad)
    assert (paused.paused_why, paused.failures) == ("failures", 20)
    (notice,) = alerts.deliveries(kind="notice")
    assert (notice.channel_id, notice.facts) == (good, {"channel": "Bad", "why": "failures"})
    sender.send_due(100)
    assert {one.channel_id for one in alerts.deliveries(state="delivered")} == {good}
    assert any("Bad" in request.json["data"]["message"] for request in receiver.requests)
    waiting = len(alerts.deliveries(channel=bad, state="waiting"))
    assert changes.resume(bad)
    assert not changes.resume(bad)
    alerts.pass_time(60)
    assert sender.send_due(100) == waiting


def test_last_channel_that_works_is_never_paused(receiver: Receiver) -> None:
    only = alerts.channel(url=receiver.url)
    fail(only, 25)
    assert Channel.objects.get(pk=only).paused_at is None


def test_success_starts_the_count_again(receiver: Receiver) -> None:
    channel = alerts.channel(url=receiver.url)
    alerts.channel(url=receiver.url)
    fail(channel, 19)
    alerts.raised("other")
    sender.send_due(100)
    fail(channel, 19)
    assert Channel.objects.get(pk=channel).paused_at is None


def test_410_pauses_the_channel_at_once(receiver: Receiver) -> None:
    gone, other = alerts.channel(name="Gone", url=f"{receiver.url}/gone"), alerts.channel(url=receiver.url)
    Channel.objects.filter(pk=other).update(failures=1)
    receiver.replies = receivers.replies(410)
    alerts.raised()
    sender.send_due()
    assert Channel.objects.get(pk=gone).paused_why == "gone"
    assert [one.channel_id for one in alerts.deliveries(kind="notice")] == [other]


# -- deletion ---------------------------------------------------------------------------------------------------------


def test_deleted_channel_keeps_its_log_and_no_secret(receiver: Receiver) -> None:
    channel = alerts.channel(name="Pager", url=receiver.url)
    alerts.raised()
    sender.send_due()
    alerts.raised("other")
    changes.delete(channel)
    assert sender.send_due() == 0
    assert alerts.states() == [("firing", "delivered", ""), ("firing", "dropped", "channel_deleted")]
    row = Channel.objects.get(pk=channel)
    assert (row.secret, row.target, row.recipients) == (None, "", [])
    alerts.channel(name="Pager", url=receiver.url)  # the name is free again
