"""Messages of each kind of channel, as real receivers get them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from email.header import decode_header, make_header
from pathlib import Path
from typing import Any

import pytest
from django.utils import translation

from metrics.monitoring.notify import changes, secrets, sender
from metrics.monitoring.notify.models import Channel
from metrics.monitoring.notify.sources import Rule
from tests.metrics.notify import alerts, receivers
from tests.metrics.notify.receivers import Mailbox, Received, Receiver

pytestmark = pytest.mark.django_db(transaction=True)


def send_all() -> int:
    """Send all messages, including those that wait for the end of a group; returns the number sent."""
    sent = sender.send_due()
    alerts.pass_time(61)
    return sent + sender.send_due()


# -- webhooks ---------------------------------------------------------------------------------------------------------


def verified(request: Received, key: str) -> bool:
    """Verifies a signature by the text of the specification, independent of the product."""
    headers = request.headers
    content = ".".join((headers["webhook-id"], headers["webhook-timestamp"], request.body.decode()))
    mac = hmac.new(base64.b64decode(key.split("_", 1)[1]), content.encode(), hashlib.sha256)
    wanted = "v1," + base64.b64encode(mac.digest()).decode()
    return wanted in headers["webhook-signature"].split(" ")


def test_webhook_is_signed_and_its_payload_is_complete(receiver: Receiver) -> None:
    written = changes.write(None, {"kind": "webhook", "name": "Pager", "url": f"{receiver.url}/hook?x=1"})
    assert written.signing_key is not None
    alerts.raised("high_cpu:web-1")
    assert sender.send_due() == 1
    (request,) = receiver.requests
    (delivery,) = alerts.deliveries()
    assert (request.method, request.path) == ("POST", "/hook?x=1")
    assert request.headers["webhook-id"] == str(delivery.message_id)
    assert request.headers["content-type"] == "application/json"
    assert verified(request, written.signing_key)
    assert not verified(request, secrets.new_signing_key())
    assert not verified(request._replace(body=request.body.replace(b"critical", b"warning")), written.signing_key)
    body = request.json
    assert body["type"] == "alert.firing"
    assert (
        body["data"].items()
        >= {
            "alert": "high_cpu:web-1",
            "rule": "high_cpu",
            "target": "web-1",
            "episode": 1,
            "severity": "critical",
            "state": "firing",
            "reason": "threshold",
            "value": 97.5,
            "test": False,
            "message": "Critical: High cpu (web-1)",
        }.items()
    )
    assert body["data"]["url"].endswith("/alerts/high_cpu:web-1/") or "high_cpu" in body["data"]["url"]
    assert len(request.body) < 20_000


def test_webhook_over_tls_reaches_the_named_host(settings: Any, tmp_path: Path) -> None:
    settings.ALERT_ALLOWED_NETWORKS = receivers.LOCAL
    settings.ALERT_CA_FILE, certificate = receivers.certificates(tmp_path)
    with receivers.http(certificate, "localhost") as receiver:
        alerts.channel(url=receiver.url)
        alerts.raised()
        assert sender.send_due() == 1
        assert receiver.requests[0].headers["host"].startswith("localhost:")


def test_payload_is_the_same_at_every_attempt(receiver: Receiver) -> None:
    alerts.channel(url=receiver.url)
    receiver.replies = receivers.replies(500)
    alerts.raised()
    sender.send_due()
    alerts.pass_time(0)
    with translation.override("fr"):
        changes.retry(alerts.deliveries()[0].pk)
        sender.send_due()
    first, second = receiver.requests
    assert first.body == second.body
    assert first.headers["webhook-id"] == second.headers["webhook-id"]


def test_old_signing_key_is_used_for_a_day_beside_the_new_one(receiver: Receiver) -> None:
    first = changes.write(None, {"kind": "webhook", "name": "Pager", "url": receiver.url})
    second = changes.write(first.channel.pk, {"rotate": True})
    assert first.signing_key
    assert second.signing_key
    assert first.signing_key != second.signing_key
    alerts.raised()
    sender.send_due()
    (request,) = receiver.requests
    assert verified(request, first.signing_key)
    assert verified(request, second.signing_key)
    secret = secrets.decrypted(second.channel.pk, Channel.objects.get(pk=second.channel.pk).secret)
    assert len(secret.keys(secret.previous_until - 1)) == 2
    assert secret.keys(secret.previous_until) == [base64.b64decode(second.signing_key.removeprefix("whsec_"))]


# -- chat -------------------------------------------------------------------------------------------------------------


def test_slack_gets_a_text_that_cannot_mention_anybody(receiver: Receiver, world: alerts.World) -> None:
    world.rules["high_cpu"] = Rule(id="high_cpu", title="CPU <!channel> & more")
    alerts.channel("slack", url=f"{receiver.url}/services/T0/B0/x")
    alerts.raised()
    assert sender.send_due() == 1
    text = receiver.requests[0].json["text"]
    assert "*Critical: CPU &lt;!channel&gt; &amp; more*" in text
    assert "Value: 97.5 %" in text
    assert "Since: 2026-01-02 03:04:05 UTC" in text
    assert set(receiver.requests[0].json) == {"text"}


def test_teams_gets_an_adaptive_card_with_a_link(receiver: Receiver) -> None:
    alerts.channel("teams", url=f"{receiver.url}/workflows/1?sig=x")
    alerts.raised()
    assert sender.send_due() == 1
    assert receiver.requests[0].path == "/workflows/1?sig=x"
    (attachment,) = receiver.requests[0].json["attachments"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    card = attachment["content"]
    assert (card["type"], card["body"][0]["text"]) == ("AdaptiveCard", "Critical: High cpu")
    assert card["actions"][0]["type"] == "Action.OpenUrl"


def test_ntfy_gets_topic_priority_and_token(receiver: Receiver) -> None:
    alerts.channel("ntfy", url=f"{receiver.url}/base/on-call", token="tk_1")
    alerts.raised()
    assert sender.send_due() == 1
    (request,) = receiver.requests
    assert (request.path, request.headers["authorization"]) == ("/base/", "Bearer tk_1")
    assert (request.json["topic"], request.json["priority"]) == ("on-call", 5)
    assert request.json["title"] == "Critical: High cpu"


def test_matrix_transaction_is_the_same_at_every_attempt(receiver: Receiver) -> None:
    alerts.channel("matrix", url=receiver.url, token="syt_1", room="!a b:example.org")
    receiver.replies = receivers.replies(502)
    alerts.raised()
    sender.send_due()
    alerts.pass_time(5)
    assert sender.send_due() == 1
    first, second = receiver.requests
    assert (first.method, first.path) == (second.method, second.path)
    (delivery,) = alerts.deliveries()
    room = "/_matrix/client/v3/rooms/%21a%20b%3Aexample.org/send/m.room.message/"
    assert first.path == f"{room}{delivery.message_id}"
    assert second.headers["authorization"] == "Bearer syt_1"
    assert second.json["msgtype"] == "m.text"


# -- e-mail -----------------------------------------------------------------------------------------------------------


def test_email_of_one_episode_is_one_conversation(mailbox: Mailbox) -> None:
    alerts.channel("email", recipients=["ops@example.org", "boss@example.org"])
    alerts.raised()
    assert send_all() == 1
    alerts.resolved()
    assert send_all() == 1
    alerts.raised(episode=2)
    assert send_all() == 1
    first, second, third = mailbox.messages
    assert mailbox.recipients[0] == ["ops@example.org", "boss@example.org"]
    assert [message["Subject"] for message in mailbox.messages] == [
        "Critical: High cpu",
        "Resolved: High cpu",
        "Critical: High cpu",
    ]
    assert first["References"] == second["References"] != third["References"]
    assert first["Auto-Submitted"] == "auto-generated"
    ids = [str(one.message_id) for one in alerts.deliveries()]
    assert [message["Message-ID"].strip("<>").partition("@")[0] for message in mailbox.messages] == ids


def test_email_keeps_its_id_when_it_is_sent_again(mailbox: Mailbox) -> None:
    alerts.channel("email", recipients=["ops@example.org"])
    mailbox.refuse["END"] = "451 try later"
    alerts.raised()
    assert sender.send_due() == 0
    (delivery,) = alerts.deliveries()
    assert delivery.answer == "refused (451)"
    del mailbox.refuse["END"]
    alerts.pass_time(5)
    assert sender.send_due() == 1
    assert len({message["Message-ID"] for message in mailbox.messages}) == 1


def test_refused_recipients_are_a_failure_without_their_addresses(mailbox: Mailbox) -> None:
    alerts.channel("email", recipients=["nobody@example.org"])
    mailbox.refuse["RCPT"] = "550 no such user nobody@example.org"
    alerts.raised()
    assert sender.send_due() == 0
    assert alerts.deliveries()[0].answer == "recipients refused (550)"


def test_email_title_cannot_add_headers(mailbox: Mailbox, world: alerts.World) -> None:
    world.rules["high_cpu"] = Rule(id="high_cpu", title="CPU\r\nBcc: thief@example.org")
    alerts.channel("email", recipients=["ops@example.org"])
    alerts.raised()
    assert sender.send_due() == 1
    assert mailbox.recipients == [["ops@example.org"]]
    assert mailbox.messages[0]["Bcc"] is None


def test_mail_server_has_a_time_limit(settings: Any) -> None:
    assert settings.EMAIL_TIMEOUT == 10


def test_email_without_a_mail_server_says_what_is_missing(settings: Any) -> None:
    settings.EMAIL_URL = ""
    alerts.channel("email", recipients=["ops@example.org"])
    alerts.raised()
    sender.send_due()
    assert alerts.deliveries()[0].answer == "EMAIL_URL is not set"


# -- what messages say ------------------------------------------------------------------------------------------------


def test_message_is_written_in_the_language_of_its_channel(mailbox: Mailbox, receiver: Receiver) -> None:
    alerts.channel("email", recipients=["ops@example.org"], language="fr")
    alerts.channel("slack", url=receiver.url, language="en")
    alerts.raised()
    with translation.override("fr"):
        assert sender.send_due() == 2
        assert translation.get_language() == "fr"
    assert "Critical" in receiver.requests[0].json["text"]
    subject = str(make_header(decode_header(mailbox.messages[0]["Subject"])))
    with translation.override("fr"):
        expected = translation.pgettext("alert message", "%(severity)s: %(title)s") % {
            "severity": translation.gettext("Critical"),
            "title": "High cpu",
        }
    assert subject == expected.replace("\N{NO-BREAK SPACE}", " "), "a header has plain spaces"


def test_no_text_of_people_and_no_secret_is_in_a_message(receiver: Receiver) -> None:
    for kind in ("webhook", "slack", "teams"):
        alerts.channel(kind, url=f"{receiver.url}/secret-path")
    alerts.raised()
    alerts.happen("high_cpu", alerts.event("acknowledged", note="customer Ann", by="staff:1", until=alerts.SINCE))
    alerts.happen("high_cpu", alerts.event("unacknowledged", why="expired"))
    send_all()
    sent = b"".join(request.body for request in receiver.requests)
    assert b"Ann" not in sent
    assert b"staff:1" not in sent
    assert b"secret-path" not in sent


def test_test_message_takes_the_same_path_and_says_so(receiver: Receiver) -> None:
    channel = alerts.channel(url=receiver.url)
    changes.pause(channel)
    delivery = changes.test(channel)
    assert (delivery.state, delivery.kind, delivery.answer) == ("delivered", "test", "HTTP 200")
    (request,) = receiver.requests
    assert (request.json["type"], request.json["data"]["test"]) == ("test", True)
    receiver.replies = receivers.replies(500)
    failed = changes.test(channel)
    assert (failed.state, failed.answer) == ("failed", "HTTP 500")
    alerts.pass_time(3600)
    assert sender.send_due() == 0, "a test is not repeated"


# -- secrets ----------------------------------------------------------------------------------------------------------


def test_secrets_are_encrypted_in_the_table_and_bound_to_their_channel(receiver: Receiver) -> None:
    one = alerts.channel("ntfy", url=f"{receiver.url}/topic-7", token="tk_secret")
    other = alerts.channel("ntfy", url=f"{receiver.url}/topic-8", token="tk_other")
    rows = {row.pk: row for row in Channel.objects.all()}
    for row in rows.values():
        for text in (b"topic", b"tk_", receiver.url.encode()):
            assert text not in bytes(row.secret or b"")
        assert json.loads(bytes(row.secret or b""))["$personal"]["text"]
    assert secrets.decrypted(one, rows[one].secret).token == "tk_secret"
    with pytest.raises(secrets.Unreadable):
        secrets.decrypted(other, rows[one].secret)
    assert "tk_secret" not in repr(secrets.decrypted(one, rows[one].secret))


def test_channel_whose_master_key_is_missing_fails_without_stopping_others(receiver: Receiver, settings: Any) -> None:
    broken, fine = alerts.channel(url=receiver.url), alerts.channel(url=receiver.url)
    Channel.objects.filter(pk=broken).update(secret=Channel.objects.get(pk=fine).secret)
    alerts.raised()
    assert sender.send_due() == 1
    assert alerts.deliveries(channel=broken)[0].answer == "secret cannot be decrypted"


def test_token_does_not_follow_to_another_host(receiver: Receiver) -> None:
    channel = alerts.channel("ntfy", url=f"{receiver.url}/a", token="tk_1")
    changes.write(channel, {"url": f"{receiver.url}/b"})
    assert secrets.decrypted(channel, Channel.objects.get(pk=channel).secret).token == "tk_1"
    changes.write(channel, {"url": "https://elsewhere.example.org/b"})
    assert secrets.decrypted(channel, Channel.objects.get(pk=channel).secret).token == ""
