"""Senders that are killed: nothing is lost, and what is sent twice has one id (healthchecks#212, report 11)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import connection

from devtools import processes
from metrics.monitoring.notify import sender
from tests import live
from tests.live import PROJECT
from tests.metrics.notify import alerts, receivers
from tests.metrics.notify.receivers import Receiver

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.services]

# Runs the real sender, which stops for ever when it calls {where}, and prints a line then.
BEFORE_POST = """
import django; django.setup()
import sys, threading
from metrics.monitoring.notify import channels, queue, sender
def stop(*_):
    print("stopped", flush=True)
    threading.Event().wait()
{where} = stop
sender.send_due()
"""


@contextmanager
def sender_process(where: str) -> Iterator[subprocess.Popen[str]]:
    """A process that sends notifications, and stops when it calls the function `where`."""
    url = live.database_url(connection.settings_dict["NAME"])
    program = processes.child_command([sys.executable, "-c", BEFORE_POST.format(where=where)])
    environment = os.environ | {
        "DATABASE_URL": url,
        "DJANGO_SETTINGS_MODULE": "backoffice.settings",
        "ALERT_ALLOWED_NETWORKS": ",".join(receivers.LOCAL),
    }
    process = subprocess.Popen(program, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        assert process.stdout.readline() == "stopped\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def killed(where: str) -> None:
    """Kill a sender with SIGKILL when it calls the function `where`."""
    with sender_process(where) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait(30)


def test_report_11_killed_after_the_claim_is_sent_by_the_next_sender(receiver: Receiver) -> None:
    alerts.channel(url=receiver.url)
    alerts.raised()
    killed("channels.send")
    assert receiver.requests == []
    assert sender.send_due() == 0, "its lease is not over"
    alerts.pass_time(61)
    assert sender.send_due() == 1
    (delivery,) = alerts.deliveries()
    assert receiver.ids == [str(delivery.message_id)]
    first, second = alerts.attempts(delivery)
    assert (first.finished_at, first.outcome) == (None, "")
    assert (second.number, second.outcome) == (2, "delivered")


def test_report_11_killed_after_the_request_is_sent_again_under_one_id(receiver: Receiver) -> None:
    alerts.channel(url=receiver.url)
    alerts.raised()
    killed("queue.mark")
    assert len(receiver.requests) == 1
    alerts.pass_time(61)
    assert sender.send_due() == 1
    (delivery,) = alerts.deliveries()
    assert receiver.ids == [str(delivery.message_id)] * 2
    first, second = (request.json["data"] for request in receiver.requests)
    assert {**first, "message": ""} == {**second, "message": ""}, "the two processes know other titles"
    assert [one.outcome for one in alerts.attempts(delivery)] == ["", "delivered"]


def test_alert_resolved_after_a_kill_is_reported_as_resolved(receiver: Receiver) -> None:
    """The first message may have arrived; the sender cannot know."""
    alerts.channel(url=receiver.url)
    alerts.raised()
    killed("queue.mark")
    alerts.resolved()
    assert sender.send_due() == 0, "the first message may still be on its way"
    alerts.pass_time(61)
    assert sender.send_due() == 1
    assert [request.json["type"] for request in receiver.requests] == ["alert.firing", "alert.resolved"]
    assert alerts.states() == [("firing", "dropped", "superseded"), ("resolved", "delivered", "")]
