"""Muting: nothing is sent while an alert is muted, and nothing is lost by it."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest

from events import store
from metrics.monitoring.notify import queue, sender, sweep
from metrics.monitoring.notify.models import Channel
from metrics.monitoring.notify.windows import DailyWindow
from tests.metrics.notify import alerts, receivers
from tests.metrics.notify.receivers import Receiver, Reply

pytestmark = pytest.mark.django_db(transaction=True)


def kinds(receiver: Receiver) -> list[str]:
    return [f"{request.json['type']} {request.json['data']['alert']}" for request in receiver.requests]


def tick() -> None:
    """Do the part of a tick that concerns notifications."""
    sweep.sweep(1)
    sender.send_due()


# -- silences ---------------------------------------------------------------------------------------------------------


def test_silenced_alert_that_lasts_is_reported_afterwards_with_its_time(
    receiver: Receiver, world: alerts.World
) -> None:
    alerts.channel(url=receiver.url)
    world.silenced.add("high_cpu")
    world.fires()
    alerts.raised()
    for _ in range(3):
        tick()
    assert receiver.requests == []
    assert alerts.states() == [("firing", "muted", "silence")]
    world.silenced.clear()
    tick()
    (request,) = receiver.requests
    assert request.json["data"]["since"] == alerts.SINCE.isoformat().replace("+00:00", "Z")
    assert request.json["data"]["late"] is True
    tick()
    assert len(receiver.requests) == 1


def test_silenced_alert_that_ends_meanwhile_is_never_reported(receiver: Receiver, world: alerts.World) -> None:
    alerts.channel(url=receiver.url)
    world.silenced.add("high_cpu")
    world.fires()
    alerts.raised()
    tick()
    world.calm("high_cpu")
    alerts.resolved()
    tick()
    world.silenced.clear()
    tick()
    assert receiver.requests == []
    assert alerts.states() == [("firing", "dropped", "superseded"), ("resolved", "dropped", "never_notified")]


def test_report_15_alert_reported_before_a_maintenance_is_not_reported_again(
    receiver: Receiver, world: alerts.World
) -> None:
    """uptime-kuma#2846: after a maintenance window it repeated reports from before the window."""
    alerts.channel(url=receiver.url)
    world.fires("before")
    alerts.raised("before")
    tick()
    world.silenced |= {"before", "inside", "short"}
    for name in ("inside", "short"):
        world.fires(name)
        alerts.raised(name)
    tick()
    world.calm("short")
    alerts.resolved("short")
    alerts.pass_time(30 * 60)
    tick()
    assert kinds(receiver) == ["alert.firing before"]
    world.silenced.clear()
    tick()
    tick()
    assert kinds(receiver) == ["alert.firing before", "alert.firing inside"]


def test_several_muted_messages_of_an_episode_become_one(receiver: Receiver, world: alerts.World) -> None:
    alerts.channel(url=receiver.url)
    world.silenced.add("high_cpu")
    world.fires()
    alerts.raised(severity="warning")
    tick()
    alerts.happen("high_cpu", alerts.event("worsened"))
    tick()
    world.silenced.clear()
    tick()
    assert kinds(receiver) == ["alert.worsened high_cpu"]
    assert receiver.requests[0].json["data"]["severity"] == "critical"


# -- inhibition -------------------------------------------------------------------------------------------------------


def test_report_9_alert_explained_by_another_is_not_reported_after_a_restart(
    receiver: Receiver, world: alerts.World
) -> None:
    """alertmanager#4064: after a restart the inhibiting alert was not known yet. Here nothing is kept in memory."""
    alerts.channel(url=receiver.url)
    world.inhibits = {"valkey_unreachable": {"queue_age"}}
    for name in ("valkey_unreachable", "queue_age"):
        world.fires(name)
        alerts.raised(name)
    for _ in range(3):
        tick()
    assert kinds(receiver) == ["alert.firing valkey_unreachable"]
    assert [one.why for one in alerts.deliveries(alert="queue_age")] == ["inhibited:valkey_unreachable"]
    world.calm("valkey_unreachable")
    alerts.resolved("valkey_unreachable")
    tick()
    assert kinds(receiver)[1:] == ["alert.resolved valkey_unreachable", "alert.firing queue_age"], "it still fires"


def test_report_10_reported_alert_is_reported_as_resolved_in_spite_of_inhibition(
    receiver: Receiver, world: alerts.World
) -> None:
    """alertmanager#2754: A was reported, then inhibited by B, then resolved, and stayed open at the receiver."""
    alerts.channel(url=receiver.url)
    world.inhibits = {"b": {"a"}}
    world.fires("a")
    alerts.raised("a")
    tick()
    world.fires("b")
    alerts.raised("b")
    tick()
    world.silenced.add("a")
    world.calm("a")
    alerts.resolved("a")
    tick()
    world.calm("b")
    alerts.resolved("b")
    tick()
    assert kinds(receiver) == ["alert.firing a", "alert.firing b", "alert.resolved a", "alert.resolved b"]


# -- flapping ---------------------------------------------------------------------------------------------------------


def test_flapping_alert_is_reported_as_flapping_instead_of_in_pairs(receiver: Receiver, world: alerts.World) -> None:
    alerts.channel(url=receiver.url)
    alerts.raised(episode=3)
    tick()
    alerts.happen("high_cpu", alerts.event("flapping", 3))
    tick()
    alerts.resolved(episode=3)
    tick()
    assert [kind.split()[0] for kind in kinds(receiver)] == ["alert.firing", "alert.flapping", "alert.resolved"]
    for episode in (4, 5):
        alerts.raised(episode=episode)
        tick()
        alerts.resolved(episode=episode)
        tick()
    assert len(receiver.requests) == 3
    world.fires(episode=6)
    alerts.raised(episode=6)
    tick()
    assert len(receiver.requests) == 3
    alerts.pass_time(3600)
    tick()
    assert kinds(receiver)[3:] == ["alert.firing high_cpu"], "one that lasts is not lost"


# -- late messages ----------------------------------------------------------------------------------------------------


def test_alert_without_a_channel_is_reported_once_there_is_one(receiver: Receiver, world: alerts.World) -> None:
    world.fires()
    alerts.raised()
    tick()
    assert alerts.deliveries() == []
    alerts.channel(url=receiver.url)
    tick()
    tick()
    assert kinds(receiver) == ["alert.firing high_cpu"]
    (delivery,) = alerts.deliveries()
    assert (delivery.cause, delivery.late) == ("late", True)
    alerts.resolved()
    tick()
    assert len(receiver.requests) == 2


def test_alert_given_up_gets_one_late_message(receiver: Receiver, world: alerts.World) -> None:
    alerts.channel(url=receiver.url)
    receiver.by_default = Reply(503)
    world.fires()
    alerts.raised()
    tick()
    alerts.pass_time(7 * 3600)
    tick()
    assert [one.cause for one in alerts.deliveries()][1:] == ["late"]
    alerts.pass_time(7 * 3600)
    tick()
    tick()
    assert len(alerts.deliveries()) == 2


# -- quiet hours ------------------------------------------------------------------------------------------------------


def quiet_now(channel: Any, hours: float = 1) -> None:
    """Give a channel quiet hours that cover the present time of the database."""
    now = store.query("select clock_timestamp()")[0][0].astimezone(UTC)
    start, end = (now - timedelta(minutes=2)).time(), (now + timedelta(hours=hours)).time()
    Channel.objects.filter(pk=channel).update(quiet_from=start, quiet_until=end)


def test_quiet_hours_hold_back_warnings_and_let_critical_alerts_pass(receiver: Receiver) -> None:
    channel = alerts.channel(url=receiver.url)
    quiet_now(channel)
    alerts.raised("small", severity="warning")
    alerts.raised("large")
    tick()
    assert kinds(receiver) == ["alert.firing large"]
    Channel.objects.filter(pk=channel).update(quiet_from=None, quiet_until=None)
    tick()
    assert len(receiver.requests) == 1
    alerts.pass_time(3600)
    tick()
    assert kinds(receiver)[1:] == ["alert.firing small"]


def test_warning_that_ends_within_the_quiet_hours_is_not_reported(receiver: Receiver) -> None:
    quiet_now(alerts.channel(url=receiver.url))
    alerts.raised(severity="warning")
    tick()
    alerts.resolved()
    tick()
    alerts.pass_time(2 * 3600)
    tick()
    assert receiver.requests == []


# -- local time -------------------------------------------------------------------------------------------------------

PARIS = DailyWindow(start=time(2, 30), end=time(3, 30), zone="Europe/Paris")


def covered(window: DailyWindow, first: datetime, minutes: int) -> list[str]:
    """The UTC times, every quarter of an hour, that the window covers."""
    instants = [first + timedelta(minutes=15 * n) for n in range(minutes // 15)]
    return [f"{at:%d %H:%M}" for at in instants if window.covers(at)]


def test_report_14_window_follows_the_local_clock_across_daylight_saving() -> None:
    """uptime-kuma#6233: a daily window moved by an hour."""
    spring = covered(PARIS, datetime(2026, 3, 28, tzinfo=UTC), 3 * 1440)
    assert spring == [
        *("28 01:30", "28 01:45", "28 02:00", "28 02:15"),  # winter: UTC+1
        *("29 01:00", "29 01:15"),  # 02:30 to 03:00 does not exist
        *("30 00:30", "30 00:45", "30 01:00", "30 01:15"),  # summer: UTC+2
    ]
    autumn = covered(PARIS, datetime(2026, 10, 24, tzinfo=UTC), 3 * 1440)
    assert autumn == [
        *("24 00:30", "24 00:45", "24 01:00", "24 01:15"),
        *("25 00:30", "25 00:45"),  # 02:30 to 03:00, the first time
        *("25 01:30", "25 01:45", "25 02:00", "25 02:15"),  # and from 02:30 again
        *("26 01:30", "26 01:45", "26 02:00", "26 02:15"),
    ]


@pytest.mark.parametrize(
    ("at", "end"),
    [
        (datetime(2026, 3, 28, 1, 30, tzinfo=UTC), datetime(2026, 3, 28, 2, 30, tzinfo=UTC)),
        (datetime(2026, 3, 29, 1, 0, tzinfo=UTC), datetime(2026, 3, 29, 1, 30, tzinfo=UTC)),
        (datetime(2026, 10, 25, 1, 45, tzinfo=UTC), datetime(2026, 10, 25, 2, 30, tzinfo=UTC)),
        (datetime(2026, 10, 25, 12, 0, tzinfo=UTC), datetime(2026, 10, 25, 12, 0, tzinfo=UTC)),
    ],
)
def test_end_of_a_window_is_the_first_instant_that_it_does_not_cover(at: datetime, end: datetime) -> None:
    assert PARIS.end_after(at) == end
    assert not PARIS.covers(end)


def test_window_past_midnight_belongs_to_the_day_on_which_it_starts() -> None:
    friday = DailyWindow(start=time(22), end=time(6), zone="Europe/Paris", days=frozenset({4}))
    assert friday.covers(datetime(2026, 1, 2, 21, 30, tzinfo=UTC))  # Friday 22:30
    assert friday.covers(datetime(2026, 1, 3, 4, 59, tzinfo=UTC))  # Saturday 05:59
    assert not friday.covers(datetime(2026, 1, 3, 21, 30, tzinfo=UTC))
    assert not friday.covers(datetime(2026, 1, 2, 4, 59, tzinfo=UTC))
    assert friday.end_after(datetime(2026, 1, 2, 21, 30, tzinfo=UTC)) == datetime(2026, 1, 3, 5, tzinfo=UTC)


# -- groups -----------------------------------------------------------------------------------------------------------


def test_first_critical_alert_is_sent_at_once_and_the_next_together(receiver: Receiver) -> None:
    alerts.channel("slack", url=receiver.url)
    for number in range(4):
        alerts.raised(f"rule_{number}")
    assert sender.send_due() == 1
    alerts.pass_time(29)
    assert sender.send_due() == 0
    alerts.pass_time(1)
    assert sender.send_due() == 1
    first, second = (request.json["text"] for request in receiver.requests)
    assert "rule 0" in first.lower()
    assert all(f"rule {number}" in second.lower() for number in (1, 2, 3))
    assert [state for _kind, state, _why in alerts.states()] == ["delivered"] * 4


def test_critical_alert_does_not_wait_for_a_group_of_warnings(receiver: Receiver) -> None:
    alerts.channel("slack", url=receiver.url)
    alerts.raised("small", severity="warning")
    assert sender.send_due() == 0
    alerts.raised("large")
    assert sender.send_due() == 1
    assert "Large" in receiver.requests[0].json["text"]


def test_many_alerts_in_a_minute_become_a_digest_with_links(receiver: Receiver) -> None:
    alerts.channel("slack", url=receiver.url)
    for number in range(12):
        alerts.raised(f"rule_{number}", severity="warning")
    alerts.pass_time(30)
    assert sender.send_due() == 1
    text = receiver.requests[0].json["text"]
    assert "12 alert messages" in text
    assert text.count("/admin/alerts/") == 13
    assert "Value" not in text
    for number in range(2):
        alerts.raised(f"more_{number}", severity="warning")
    alerts.pass_time(31)
    assert sender.send_due() == 0, "more than five in the last minute: the next group is longer"
    alerts.pass_time(30)
    assert sender.send_due() == 1


def test_group_keeps_its_id_and_its_members_when_it_is_sent_again(receiver: Receiver) -> None:
    alerts.channel("slack", url=receiver.url)
    for number in range(3):
        alerts.raised(f"rule_{number}", severity="warning")
    receiver.replies = receivers.replies(500)
    alerts.pass_time(30)
    assert sender.send_due() == 0
    alerts.raised("new", severity="warning")
    alerts.pass_time(30)
    assert sender.send_due() == 2
    first, second, third = receiver.requests
    assert (first.body, first.headers["webhook-id"]) == (second.body, second.headers["webhook-id"])
    assert "New" in third.json["text"]


def test_programs_get_every_alert_by_itself_at_once(receiver: Receiver) -> None:
    alerts.channel("webhook", url=receiver.url)
    for number in range(8):
        alerts.raised(f"rule_{number}", severity="warning")
    assert sender.send_due() == 8
    assert len(set(receiver.ids)) == 8


def test_settling_twice_changes_nothing(receiver: Receiver) -> None:
    alerts.channel(url=receiver.url)
    alerts.raised()
    alerts.resolved()
    queue.settle()
    before = alerts.states()
    queue.settle()
    assert alerts.states() == before
