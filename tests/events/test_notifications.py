"""The bell is heard, and never costs a writer more than a try."""

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
def line(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A line of this test's own, and no pause left over."""
    monkeypatch.setattr(notifications, "_silent_until", 0.0)
    monkeypatch.setattr(notifications, "QUIET", 0.0)
    notifications._hang_up()
    yield
    notifications._hang_up()


def test_whoever_listens_hears_every_ring_in_order(settings: Any) -> None:
    with redis.Redis.from_url(settings.REDIS_URL) as client, client.pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe(notifications.channel())
        listener.get_message(timeout=5)  # subscribed
        rung = list(range(1, 3 * notifications.READ_EVERY))
        for position in rung:
            notifications.ring(position)
        heard: list[int] = []
        while len(heard) < len(rung):
            message = listener.get_message(timeout=10)
            assert message is not None
            heard.append(int(message["data"]))
    assert heard == rung


def test_without_valkey_a_ring_is_nothing_and_the_next_ones_do_not_even_try(
    settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.REDIS_URL = f"redis://127.0.0.1:{processes.free_port()}"
    for position in range(5):
        notifications.ring(position)
    assert [record.name for record in caplog.records] == ["events.notifications"]


def test_a_line_that_was_cut_is_made_anew(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    notifications.ring(1)
    cut = notifications._local.socket
    cut.close()
    notifications.ring(2)  # notices
    monkeypatch.setattr(notifications, "_silent_until", 0.0)
    notifications.ring(3)
    assert notifications._local.socket is not cut


ANOTHER = """
import django
django.setup()
from events import notifications
notifications.QUIET = 3600.0
notifications.ring(2)
print("rang" if hasattr(notifications._local, "socket") else "passed over", flush=True)
"""


def test_a_ring_speaks_for_the_other_processes_of_its_machine_too(settings: Any) -> None:
    notifications._shared = None
    notifications.ring(1)
    done = subprocess.run(
        [sys.executable, "-c", ANOTHER],
        env=os.environ | {"REDIS_URL": settings.REDIS_URL, "REDIS_PREFIX": settings.REDIS_PREFIX},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == "passed over"


def test_a_ring_that_failed_or_is_still_to_come_speaks_for_nobody(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifications, "QUIET", 3600.0)
    monkeypatch.setattr(notifications, "_shared", None)
    notifications._MOMENT.pack_into(
        notifications._share(), 0, time.monotonic() + 60
    )  # of before the machine was started
    notifications.ring(1)
    assert hasattr(notifications._local, "socket")
    settings.REDIS_URL = f"redis://127.0.0.1:{processes.free_port()}"
    notifications._hang_up()
    notifications._MOMENT.pack_into(notifications._share(), 0, -3600.0)
    notifications.ring(2)
    assert notifications._MOMENT.unpack_from(notifications._share())[0] == 0.0


def test_a_ring_without_a_file_to_share_is_rung_all_the_same(
    settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings.DATA_DIR = tmp_path / "absent"
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    monkeypatch.setattr(notifications, "_shared", None)
    notifications.ring(1)
    assert hasattr(notifications._local, "socket")
    assert "does not know when others rang" in caplog.text


def test_a_ring_speaks_for_what_follows_at_once_and_whoever_heard_it_looks_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(notifications, "QUIET", 3600.0)
    notifications._MOMENT.pack_into(notifications._share(), 0, -3600.0)
    stop = threading.Event()
    with contextlib.closing(notifications.Ear()) as ear:
        ear.wait(60, stop)  # subscribes, and looks
        notifications.ring(1)
        notifications.ring(2)  # passed over
        waits = []
        for patience in (60, 60, 0.01):
            ear.wait(patience, stop)
            waits.append(ear._look_again_at)
    heard, again, quiet = waits
    assert heard is not None, "the ring was heard, and a second look is due"
    assert again is None, "which came by itself, long before a minute was over"
    assert quiet is None, "and then there was nothing more to hear"


def test_an_ear_whose_line_was_cut_polls_and_listens_anew(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    stop = threading.Event()
    with contextlib.closing(notifications.Ear()) as ear, redis.Redis.from_url(settings.REDIS_URL) as client:
        ear.wait(60, stop)
        client.client_kill_filter(laddr=None, addr="{}:{}".format(*ear._connection._sock.getsockname()))
        ear.wait(0.01, stop)
        assert "cannot listen" in caplog.text
        ear.wait(60, stop)
        notifications.ring(1)
        ear.wait(60, stop)
        assert ear._look_again_at is not None, "it heard the ring"
