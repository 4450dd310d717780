"""Answers of receivers are stored as codes and shown in the language of the reader."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from metrics.monitoring.notify import answers, sender
from tests.backoffice.api_client import signed_in
from tests.metrics.notify import alerts
from tests.metrics.notify.receivers import Receiver, Reply

SOURCES = Path(answers.__file__).parent / "channels"
CODES = re.compile(r"""(?:Refused|Unreachable)\("(\w+)"|detail=f?"(\w+)|return f"(mail_\w+)""")


def test_every_code_of_the_senders_has_words() -> None:
    matches = [match for path in SOURCES.glob("*.py") for match in CODES.findall(path.read_text())]
    found = {code for match in matches for code in match if code}
    assert {"http", "timeout", "address_private", "mail_refused", "internal"} <= found
    assert found <= answers.TEXTS.keys()


@pytest.mark.parametrize(
    ("stored", "text"),
    [
        ("http:503", "HTTP 503"),
        ("mail_recipients:550, 551", "recipients refused (550, 551)"),
        ("timeout", "no answer in time"),
        ("", ""),
        ("HTTP 200", "HTTP 200"),  # stored by an earlier release
        ("no connection: gaierror", "no connection: gaierror"),
    ],
)
def test_answer_is_shown_in_words(stored: str, text: str) -> None:
    assert answers.text(stored) == text


@pytest.mark.django_db
def test_api_and_pages_show_words_for_the_stored_code(receiver: Receiver) -> None:
    alerts.channel(url=receiver.url)
    alerts.raised()
    receiver.replies = [Reply(hang_up=True)]
    sender.send_due()
    (delivery,) = alerts.deliveries()
    assert delivery.answer == "no_answer:RemoteDisconnected"
    viewer = signed_in("viewer")
    (shown,) = viewer.get("deliveries/").json()["items"]
    assert shown["answer"] == shown["attempts"][0]["answer"] == "no answer: RemoteDisconnected"
    assert "no answer: RemoteDisconnected" in viewer.client.get("/admin/metrics/delivery/").content.decode()
