"""Notifications reach listeners, and an unreachable Valkey costs a writer one attempt to connect."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from devtools import processes
from events import notifications


@pytest.fixture(autouse=True)
def connection(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A new connection for this test, without a pause that an earlier test caused."""
    monkeypatch.setattr(notifications, "_silent_until", 0.0)
    monkeypatch.setattr(notifications, "QUIET", 0.0)
    notifications._disconnect()
    yield
    notifications._disconnect()


def test_listener_gets_every_notification_in_order(settings: Any) -> None:
    with redis.Redis.from_url(settings.REDIS_URL) as client, client.pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe(notifications.channel())
        listener.get_message(timeout=5)  # subscribed
        sent = list(range(1, 3 * notifications.READ_EVERY))
        for position in sent:
            notifications.notify(position)
        received: list[int] = []
        while len(received) < len(sent):
            message = listener.get_message(timeout=10)
            assert message is not None
            received.append(int(message["data"]))
    assert received == sent


def test_notification_without_valkey_fails_silently_and_the_next_ones_are_skipped(
    settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.REDIS_URL = f"redis://127.0.0.1:{processes.free_port()}"
    for position in range(5):
        notifications.notify(position)
    assert [record.name for record in caplog.records] == ["events.notifications"]


def test_broken_connection_is_replaced(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    notifications.notify(1)
    cut = notifications._local.socket
    cut.close()
    notifications.notify(2)  # notices
    monkeypatch.setattr(notifications, "_silent_until", 0.0)
    notifications.notify(3)
    assert notifications._local.socket is not cut


ANOTHER = """
import django
django.setup()
from events import notifications
notifications.QUIET = 3600.0
notifications.notify(2)
print("sent" if hasattr(notifications._local, "socket") else "skipped", flush=True)
"""


def test_notification_covers_the_other_processes_of_its_machine(settings: Any) -> None:
    notifications._shared = None
    notifications.notify(1)
    done = subprocess.run(
        [sys.executable, "-c", ANOTHER],
        env=os.environ | {"REDIS_URL": settings.REDIS_URL, "REDIS_PREFIX": settings.REDIS_PREFIX},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == "skipped"


def test_failed_or_future_notification_covers_no_commit(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifications, "QUIET", 3600.0)
    monkeypatch.setattr(notifications, "_shared", None)
    notifications._TIME.pack_into(
        notifications._shared_time(), 0, time.monotonic() + 60
    )  # a time before this machine was started
    notifications.notify(1)
    assert hasattr(notifications._local, "socket")
    settings.REDIS_URL = f"redis://127.0.0.1:{processes.free_port()}"
    notifications._disconnect()
    notifications._TIME.pack_into(notifications._shared_time(), 0, -3600.0)
    notifications.notify(2)
    assert notifications._TIME.unpack_from(notifications._shared_time())[0] == 0.0


def test_notification_is_sent_without_a_shared_file(
    settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings.DATA_DIR = tmp_path / "absent"
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    monkeypatch.setattr(notifications, "_shared", None)
    notifications.notify(1)
    assert hasattr(notifications._local, "socket")
    assert "does not see those of other processes" in caplog.text


def test_notification_covers_commits_right_after_it_and_its_listener_reads_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(notifications, "QUIET", 3600.0)
    notifications._TIME.pack_into(notifications._shared_time(), 0, -3600.0)
    stop = threading.Event()
    with contextlib.closing(notifications.Listener()) as waiting:
        waiting.wait(60, stop)  # subscribes, then returns at once
        notifications.notify(1)
        notifications.notify(2)  # skipped
        waits = []
        for seconds in (60, 60, 0.01):
            waiting.wait(seconds, stop)
            waits.append(waiting._look_again_at)
    first, second, third = waits
    assert first is not None, "the notification arrived, and a second look is due"
    assert second is None, "the second look came by itself, long before a minute was over"
    assert third is None, "then there was no further notification"


def test_listener_with_a_broken_connection_polls_and_reconnects(
    settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    stop = threading.Event()
    with contextlib.closing(notifications.Listener()) as waiting, redis.Redis.from_url(settings.REDIS_URL) as client:
        waiting.wait(60, stop)
        client.client_kill_filter(laddr=None, addr="{}:{}".format(*waiting._connection._sock.getsockname()))
        waiting.wait(0.01, stop)
        assert "cannot listen" in caplog.text
        waiting.wait(60, stop)
        notifications.notify(1)
        waiting.wait(60, stop)
        assert waiting._look_again_at is not None, "the notification arrived"
