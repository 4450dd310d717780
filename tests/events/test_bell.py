"""The bell is heard, and never costs a writer more than a try."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from backoffice import embedded
from events import bell, subscriptions


@pytest.fixture(autouse=True)
def line(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A line of this test's own, and no pause left over."""
    monkeypatch.setattr(bell, "_silent_until", 0.0)
    monkeypatch.setattr(bell, "QUIET", 0.0)
    bell._hang_up()
    yield
    bell._hang_up()


def test_whoever_listens_hears_every_ring_in_order(settings: Any) -> None:
    with redis.Redis.from_url(settings.REDIS_URL) as client, client.pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe(bell.channel())
        listener.get_message(timeout=5)  # subscribed
        rung = list(range(1, 3 * bell.READ_EVERY))
        for position in rung:
            bell.ring(position)
        heard: list[int] = []
        while len(heard) < len(rung):
            message = listener.get_message(timeout=10)
            assert message is not None
            heard.append(int(message["data"]))
    assert heard == rung


def test_without_valkey_a_ring_is_nothing_and_the_next_ones_do_not_even_try(
    settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.REDIS_URL = f"redis://127.0.0.1:{embedded.free_port()}"
    for position in range(5):
        bell.ring(position)
    assert [record.name for record in caplog.records] == ["events.bell"]


def test_a_line_that_was_cut_is_made_anew(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bell.ring(1)
    cut = bell._local.socket
    cut.close()
    bell.ring(2)  # notices
    monkeypatch.setattr(bell, "_silent_until", 0.0)
    bell.ring(3)
    assert bell._local.socket is not cut


def test_a_ring_speaks_for_what_follows_at_once_and_whoever_heard_it_looks_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bell, "QUIET", 3600.0)
    monkeypatch.setattr(bell, "_rung_at", -3600.0)
    stop = threading.Event()
    with subscriptions.listening() as bells:
        bells.wait(0, stop)  # subscribes
        bells.wait(60, stop)  # is told so
        bell.ring(1)
        bell.ring(2)  # passed over
        waits = []
        for patience in (60, 60, 0.01):
            bells.wait(patience, stop)
            waits.append(bells._look_again_at)
    heard, again, quiet = waits
    assert heard is not None, "the ring was heard, and a second look is due"
    assert again is None, "which came by itself, long before a minute was over"
    assert quiet is None, "and then there was nothing more to hear"
