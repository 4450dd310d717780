"""Channels and the delivery log: permissions, and secrets that no response contains."""

from __future__ import annotations

import uuid
from typing import Any

import orjson
import pytest
from django.test import Client
from django.urls import reverse

from backoffice.api import shapes as api_shapes
from events import store
from metrics.monitoring.notify import sender, shapes
from metrics.monitoring.notify.models import Channel
from tests.backoffice import api_client
from tests.metrics.notify import alerts, receivers
from tests.metrics.notify.receivers import Receiver

pytestmark = pytest.mark.django_db(transaction=True)

PATH = "hidden-path-7"
TOKEN = "tk_hidden_token"


def signed_in(role: str) -> Client:
    client = Client()
    client.force_login(api_client.staff(role))
    return client


def webhook(receiver: Receiver, **more: Any) -> dict[str, Any]:
    return {"name": f"Pager {uuid.uuid4().hex[:6]}", "kind": "webhook", "url": f"{receiver.url}/{PATH}", **more}


def matrix(receiver: Receiver) -> dict[str, Any]:
    given = {"kind": "matrix", "url": f"{receiver.url}/", "token": TOKEN, "room": "!r:example.org"}
    return {"name": f"Room {uuid.uuid4().hex[:6]}", **given}


def page(name: str, *arguments: Any) -> str:
    return reverse(f"admin:metrics_{name}", args=arguments)


# -- API --------------------------------------------------------------------------------------------------------------


def test_channel_is_created_read_changed_tested_and_deleted(receiver: Receiver) -> None:
    admin = api_client.signed_in("admin")
    made = admin.post("channels/", webhook(receiver))
    assert made.status_code == 200, made.content
    channel = api_shapes.checked(shapes.Channel, made.json())
    assert isinstance(channel.signing_key, str)
    assert channel.target == receiver.url
    path = f"channels/{channel.id}/"
    assert api_shapes.checked(shapes.Channel, admin.get(path).json()).name == channel.name
    changed = admin.patch(
        path, {"language": "fr", "quiet_from": "22:00", "quiet_until": "06:30", "zone": "Europe/Paris"}
    )
    assert (changed.json()["quiet_from"], changed.json()["language"]) == ("22:00", "fr")
    tested = api_shapes.checked(shapes.Delivery, admin.post(f"{path}test/", {}).json())
    assert (tested.state, tested.kind, tested.attempts[0].outcome) == ("delivered", "test", "delivered")
    assert receiver.requests[0].path == f"/{PATH}"
    assert admin.patch(path, {"paused": True}).json()["paused_why"] == "by_hand"
    assert admin.patch(path, {"paused": False}).json()["paused"] is False
    assert admin.delete(path).status_code == 200
    api_client.problem(admin.get(path), 404, "not_found")
    assert [event.type for event in store.read_stream(f"channel-{channel.id}")] == [
        "channel.created",
        "channel.updated",
        "channel.paused",
        "channel.resumed",
        "channel.deleted",
    ]


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"url": "http://hooks.example.org/"}, "url"),
        ({"url": "https://user:pw@hooks.example.org/"}, "url"),
        ({"url": ""}, "url"),
        ({"kind": "fax"}, "kind"),
        ({"kind": "email", "url": ""}, "recipients"),
        ({"kind": "email", "url": "", "recipients": ["nobody"]}, "recipients"),
        ({"recipients": ["a@example.org"]}, "recipients"),
        ({"kind": "matrix"}, "token"),
        ({"kind": "ntfy", "url": "https://ntfy.example.org/"}, "url"),
        ({"kind": "ntfy", "url": "https://ntfy.example.org/t", "token": "a b"}, "token"),
        ({"quiet_from": "22:00"}, "quiet_from"),
        ({"quiet_from": "22:00", "quiet_until": "22:00"}, "quiet_from"),
        ({"quiet_from": "25:00", "quiet_until": "22:00"}, "quiet_from"),
        ({"zone": "Europe/Nowhere"}, "zone"),
        ({"zone": "../../etc/passwd"}, "zone"),
        ({"name": ""}, "name"),
        ({"color": "red"}, "color"),
    ],
)
def test_channel_that_cannot_work_is_refused_with_its_field(given: dict[str, Any], field: str) -> None:
    body = {"name": "Pager", "kind": "webhook", "url": "https://hooks.example.org/x", **given}
    problem = api_client.problem(api_client.signed_in("admin").post("channels/", body), 422, "invalid")
    assert field in problem["errors"]
    assert not Channel.objects.exists()


def test_name_is_unique_among_channels(receiver: Receiver) -> None:
    admin = api_client.signed_in("admin")
    admin.post("channels/", webhook(receiver, name="Pager"))
    problem = api_client.problem(admin.post("channels/", webhook(receiver, name="Pager")), 422, "invalid")
    assert "name" in problem["errors"]


def test_deliveries_are_listed_newest_first_and_in_pages(receiver: Receiver) -> None:
    channel = alerts.channel(url=receiver.url)
    for number in range(5):
        alerts.raised(f"rule_{number}")
    receiver.replies = receivers.replies(500)
    sender.send_due()
    viewer = api_client.signed_in("viewer")
    first = api_shapes.checked(shapes.Deliveries, viewer.get("deliveries/?limit=3").json())
    second = api_shapes.checked(shapes.Deliveries, viewer.get(f"deliveries/?limit=3&before={first.next}").json())
    assert [one.alert for one in (*first.items, *second.items)] == [f"rule_{n}" for n in (4, 3, 2, 1, 0)]
    assert second.next is None
    narrowed = viewer.get(f"deliveries/?alert=rule_2&channel={channel}&state=waiting").json()
    assert [one["alert"] for one in narrowed["items"]] == ["rule_2"]
    for query in ("state=lost", "channel=x", "limit=0", "limit=500", "color=red"):
        assert viewer.get(f"deliveries/?{query}").status_code == 400, query


def test_delivery_is_retried_through_the_api(receiver: Receiver) -> None:
    alerts.channel(url=receiver.url)
    receiver.replies = receivers.replies(500)
    alerts.raised()
    sender.send_due()
    (delivery,) = alerts.deliveries()
    manager = api_client.signed_in("manager")
    shown = manager.post(f"deliveries/{delivery.message_id}/retry/", {})
    assert (shown.status_code, shown.json()["state"]) == (200, "waiting")
    assert sender.send_due() == 1
    api_client.problem(manager.post(f"deliveries/{delivery.message_id}/retry/", {}), 409, "not_retryable")
    api_client.problem(manager.post(f"deliveries/{uuid.uuid4()}/retry/", {}), 404, "not_found")


@pytest.mark.parametrize("role", api_client.ROLES)
def test_role_decides_through_api_and_pages(role: str, receiver: Receiver) -> None:
    channel = alerts.channel(url=receiver.url)
    mail = alerts.channel("email", recipients=["boss@example.org"])
    receiver.replies = receivers.replies(500)
    alerts.raised()
    sender.send_due()
    delivery = next(one for one in alerts.deliveries() if one.channel_id == channel)
    caller, client = api_client.signed_in(role), signed_in(role)
    admin, retries = role == "admin", role in ("admin", "manager")
    statuses = [
        caller.get("channels/").status_code,
        caller.get("deliveries/").status_code,
        caller.get(f"channels/{channel}/").status_code,
    ]
    assert statuses == [200, 200, 200]
    assert caller.get(f"channels/{mail}/").json()["recipients"] == (["boss@example.org"] if admin else None)
    refused = 200 if admin else 403
    assert caller.post("channels/", webhook(receiver)).status_code == refused
    assert caller.patch(f"channels/{channel}/", {"language": "fr"}).status_code == refused
    assert caller.post(f"channels/{channel}/test/", {}).status_code == refused
    assert caller.post(f"deliveries/{delivery.message_id}/retry/", {}).status_code == (200 if retries else 403)
    for address in (page("channel_changelist"), page("channel_change", channel), page("delivery_changelist")):
        response = client.get(address)
        assert response.status_code == 200
        assert b"boss@example.org" not in response.content
    assert client.get(page("delivery_change", delivery.pk)).status_code == 200
    assert (b"boss@example.org" in client.get(page("channel_change", mail)).content) == admin
    assert client.get(page("channel_add")).status_code == refused
    act = client.post(page("channel_act", channel), {"action": "pause"})
    assert act.status_code == (302 if admin else 403)
    test = client.post(page("channel_changelist"), {"action": "send_tests", "_selected_action": [str(channel)]})
    assert (Channel.objects.get(pk=channel).paused_at is not None) == admin
    assert test.status_code in ((302,) if admin else (200, 302, 403))
    sent = len(alerts.deliveries(kind="test"))
    assert sent == (2 if admin else 0)
    assert caller.delete(f"channels/{channel}/").status_code == refused


def test_key_without_the_scope_is_refused(receiver: Receiver) -> None:
    channel = alerts.channel(url=receiver.url)
    reader, stranger = api_client.program("alerts:read", role="admin"), api_client.program("users:read", role="admin")
    assert reader.get("channels/").status_code == 200
    api_client.problem(reader.post(f"channels/{channel}/test/", {}), 403, "missing_scope")
    api_client.problem(stranger.get("deliveries/"), 403, "missing_scope")


# -- secrets ----------------------------------------------------------------------------------------------------------


def test_secrets_appear_in_no_answer_page_event_log_or_export(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    admin, client = api_client.signed_in("admin"), signed_in("admin")
    made = [admin.post("channels/", body) for body in (webhook(receiver), matrix(receiver))]
    key = made[0].json().pop("signing_key")
    channels = [one.json()["id"] for one in made]
    receiver.by_default = receivers.Reply(500)
    alerts.raised()
    sender.send_due()
    admin.patch(f"channels/{channels[1]}/", {"token": f"{TOKEN}-2"})
    answers = [
        made[1].content,
        *(admin.get(path).content for path in ("channels/", "deliveries/", f"channels/{channels[0]}/")),
        *(admin.get(f"streams/channel-{channel}/").content for channel in channels),
        admin.post(f"channels/{channels[1]}/test/", {}).content,
        *(client.get(page("channel_change", channel)).content for channel in channels),
        *(client.get(page(name)).content for name in ("channel_changelist", "delivery_changelist")),
        *(client.get(page("delivery_change", one.pk)).content for one in alerts.deliveries()),
        *(orjson.dumps([event.to_wire() for event in store.read_stream(f"channel-{one}")]) for one in channels),
        caplog.text.encode(),
    ]
    assert all(answers)
    for answer in answers:
        for secret in (PATH, TOKEN, key, key.removeprefix("whsec_")):
            assert secret.encode() not in answer


# -- pages ------------------------------------------------------------------------------------------------------------


def form(**given: Any) -> dict[str, Any]:
    plain = {"name": "Pager", "kind": "webhook", "language": "en", "min_severity": "warning", "zone": "UTC"}
    return {**plain, "quiet_from": "", "quiet_until": "", "recipients": "", "url": "", "token": "", "room": "", **given}


def test_channel_is_added_by_a_form_that_shows_the_key_once(receiver: Receiver) -> None:
    client = signed_in("admin")
    shown = client.post(page("channel_add"), form(url=f"{receiver.url}/{PATH}"))
    assert shown.status_code == 200
    assert b"whsec_" in shown.content
    assert "no-store" in shown["Cache-Control"]
    channel = Channel.objects.get(name="Pager")
    again = client.get(page("channel_change", channel.pk)).content
    assert b"whsec_" not in again
    assert PATH.encode() not in again
    changed = client.post(page("channel_change", channel.pk), form(name="Night pager"))
    assert changed.status_code == 302
    assert Channel.objects.get(pk=channel.pk).name == "Night pager"
    tested = client.post(page("channel_act", channel.pk), {"action": "test"}, follow=True)
    assert "The test message reached" in tested.content.decode()
    assert receiver.requests[0].path == f"/{PATH}", "an empty field keeps the stored URL"


def test_form_shows_what_is_wrong(receiver: Receiver) -> None:
    client = signed_in("admin")
    shown = client.post(page("channel_add"), form(url="http://10.0.0.1.example.org:x/"))
    assert shown.status_code == 200
    assert set(shown.context["adminform"].form.errors) == {"url"}
    shown = client.post(page("channel_add"), form(kind="email", recipients="a@example.org\nnobody"))
    assert set(shown.context["adminform"].form.errors) == {"recipients"}
    assert not Channel.objects.exists()


def test_email_channel_is_added_with_its_recipients() -> None:
    client = signed_in("admin")
    assert (
        client.post(page("channel_add"), form(kind="email", recipients="a@example.org\n b@example.org ")).status_code
        == 302
    )
    assert Channel.objects.get().recipients == ["a@example.org", "b@example.org"]


def test_log_distinguishes_decided_from_delivered(receiver: Receiver) -> None:
    alerts.channel(url=receiver.url)
    receiver.replies = receivers.replies(500)
    alerts.raised()
    sender.send_due()
    client = signed_in("manager")
    listed = client.get(page("delivery_changelist")).content.decode()
    assert "Waiting" in listed
    assert "HTTP 500" in listed
    (delivery,) = alerts.deliveries()
    again = {"action": "send_again", "_selected_action": [str(delivery.pk)]}
    assert client.post(page("delivery_changelist"), again).status_code == 302
    assert sender.send_due() == 1
    shown = client.get(page("delivery_change", delivery.pk)).content.decode()
    assert "HTTP 500" in shown
    assert "HTTP 200" in shown
    assert client.post(page("delivery_change", delivery.pk), {"state": "failed"}).status_code == 403


def test_unknown_channel_or_action_is_not_found(receiver: Receiver) -> None:
    client = signed_in("admin")
    assert client.post(page("channel_act", uuid.uuid4()), {"action": "test"}).status_code == 404
    channel = alerts.channel(url=receiver.url)
    assert client.post(page("channel_act", channel), {"action": "explode"}).status_code == 404
    assert client.get(page("channel_act", channel)).status_code == 405
