"""The receiver of webhooks for development: signatures, repetitions, and its command."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from devtools import webhooks
from devtools.webhooks import Received
from metrics.monitoring.notify.channels import webhook
from tests.live import PROJECT

KEY = webhooks.KEY_PREFIX + base64.b64encode(b"k" * 32).decode()
BODY = b'{"type": "alert.firing", "data": {"alert": "high_cpu", "message": "Critical: High CPU load"}}'
AT = datetime(2026, 1, 2, tzinfo=UTC)


def post(url: str, body: bytes = BODY, *, key: bytes = b"k" * 32, name: str = "m1") -> int:
    headers = {
        "webhook-id": name,
        "webhook-timestamp": str(int(AT.timestamp())),
        "webhook-signature": webhook.signature([b"an older key", key], name, AT, body),
    }
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.fixture
def arrived() -> Iterator[tuple[str, list[Received]]]:
    found: list[Received] = []

    def answer(received: Received) -> int:
        found.append(received)
        return 503 if received.earlier == 0 else 204

    receiver = webhooks.Receiver(answer, key=KEY)
    receiver.start()
    yield receiver.url, found
    receiver.close()


def test_signature_by_one_of_the_keys_is_accepted_and_repetitions_are_counted(
    arrived: tuple[str, list[Received]],
) -> None:
    url, found = arrived
    assert [post(url), post(url), post(url, name="m2")] == [503, 204, 503]
    assert [(one.id, one.is_signed, one.earlier) for one in found] == [
        ("m1", True, 0),
        ("m1", True, 1),
        ("m2", True, 0),
    ]


def test_wrong_key_and_nonsense_are_noticed(arrived: tuple[str, list[Received]]) -> None:
    url, found = arrived
    assert post(url, key=b"another") == 503
    assert found[0].is_signed is False
    assert [post(url, body) for body in (b"", b"[]", b"{", b"\xff")] == [400] * 4


@pytest.mark.services
def test_command_prints_each_webhook_and_ends_by_a_signal() -> None:
    command = [sys.executable, "manage.py", "receive_webhooks", "--port", "0", "--key", KEY, "--refuse", "1"]
    env = os.environ | {"DEBUG": "1"}
    with subprocess.Popen(command, cwd=PROJECT, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        assert [post(url), post(url)] == [503, 204]
        lines = [process.stdout.readline(), process.stdout.readline()]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert "alert.firing · high_cpu · Critical: High CPU load · m1 · signed · attempt 1 · answered 503" in lines[0]
    assert "attempt 2 · answered 204" in lines[1]
