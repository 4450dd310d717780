"""Requests to URLs from the environment: the heartbeat, and the fallback while the database is down."""

from __future__ import annotations

from typing import Any

from metrics.monitoring.notify import outside
from tests.metrics.notify import receivers
from tests.metrics.notify.receivers import Receiver, Reply


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_heartbeat_fetches_its_url_and_survives_any_answer(settings: Any, receiver: Receiver) -> None:
    assert not outside.heartbeat(1), "without a URL there is nothing to do"
    settings.ALERT_ALLOWED_NETWORKS = []
    settings.ALERT_HEARTBEAT_URL = f"{receiver.url}/ping/1"
    assert outside.heartbeat(1)
    assert (receiver.requests[0].method, receiver.requests[0].path) == ("GET", "/ping/1")
    receiver.replies = [Reply(500), Reply(hang_up=True)]
    assert not outside.heartbeat(2)
    assert not outside.heartbeat(3)
    settings.ALERT_HEARTBEAT_URL = "https://host.invalid/"
    assert not outside.heartbeat(4)


def test_database_that_is_down_for_15_seconds_is_reported_once(settings: Any, receiver: Receiver) -> None:
    settings.ALERT_FALLBACK_URL = f"{receiver.url}/fallback"
    clock = Clock()
    watch = outside.DatabaseWatch(clock)
    assert not watch.failed()
    clock.now += 14.9
    assert not watch.failed()
    clock.now += 0.1
    assert watch.failed()
    clock.now += 100
    assert not watch.failed()
    assert "does not answer" in receiver.requests[0].json["text"]
    assert watch.works()
    assert not watch.works()
    assert ["answers again" in request.json["text"] for request in receiver.requests] == [False, True]
    assert not watch.failed(), "it counts from the beginning again"


def test_report_that_does_not_arrive_is_tried_again(settings: Any, receiver: Receiver) -> None:
    settings.ALERT_FALLBACK_URL = receiver.url
    clock = Clock()
    watch = outside.DatabaseWatch(clock)
    watch.failed()
    clock.now += 15
    receiver.replies = receivers.replies(503)
    assert not watch.failed()
    assert watch.failed()
    assert len(receiver.requests) == 2


def test_short_interruption_is_not_reported(settings: Any, receiver: Receiver) -> None:
    settings.ALERT_FALLBACK_URL = receiver.url
    clock = Clock()
    watch = outside.DatabaseWatch(clock)
    for _ in range(5):
        watch.failed()
        clock.now += 10
        watch.failed()
        assert not watch.works()
    assert receiver.requests == []
