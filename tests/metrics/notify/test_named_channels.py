"""Rules name channels: a name that no channel has is refused at its field."""

from __future__ import annotations

from typing import Any

import pytest

from backoffice import preconditions
from events import errors
from metrics.monitoring.notify import changes, models
from tests.backoffice.api_client import problem, signed_in
from tests.metrics.alerting.samples import do
from tests.metrics.notify import alerts
from tests.metrics.notify.receivers import Receiver

pytestmark = pytest.mark.django_db

RULE: dict[str, Any] = {"title": "Queue", "metric": "queue.depth", "warn": 100}


@pytest.mark.parametrize("action", ["create", "update"])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("channels", ["Pager", "Telephone"]),
        ("escalation", [{"minutes": 5, "channels": ["Pager"]}, {"minutes": 10, "channels": ["Telephone"]}]),
    ],
)
def test_rule_that_names_an_unknown_channel_is_refused_with_its_field(
    receiver: Receiver, action: str, field: str, value: Any
) -> None:
    alerts.channel(name="Pager", url=receiver.url)
    given = RULE
    if action == "update":
        do("rule.create", "queue", RULE)
        given = {}
    with pytest.raises(errors.InvalidCommand) as refused:
        do(f"rule.{action}", "queue", {**given, field: value})
    assert refused.value.fields == {field: "There is no channel named 'Telephone'."}
    alerts.channel(name="Telephone", url=receiver.url)
    assert do(f"rule.{action}", "queue", {**given, field: value}).status == "applied"


def test_api_names_the_field(receiver: Receiver) -> None:
    found = signed_in("admin").command("rule.create", "queue", {**RULE, "channels": ["Nobody"]})
    assert problem(found, 422, "invalid")["errors"] == {"channels": "There is no channel named 'Nobody'."}


def test_rule_of_a_deleted_channel_can_still_be_edited(receiver: Receiver) -> None:
    pager = alerts.channel(name="Pager", url=receiver.url)
    do("rule.create", "queue", {**RULE, "channels": ["Pager"]})
    changes.delete(pager)
    assert do("rule.update", "queue", {"warn": 200}).status == "applied"


def test_rule_copied_from_another_log_is_not_checked(receiver: Receiver) -> None:
    with preconditions.waived("all"):
        assert do("rule.create", "queue", {**RULE, "channels": ["Elsewhere"]}).status == "applied"


def test_alert_copied_from_another_log_notifies_nobody(receiver: Receiver) -> None:
    alerts.channel(url=receiver.url)
    with preconditions.waived("all"):
        alerts.raised()
    assert not models.Delivery.objects.exists()


def test_channel_name_is_normalized_as_in_rules(receiver: Receiver) -> None:
    alerts.channel(name="  Night \t shift ", url=receiver.url)
    assert models.Channel.objects.get().name == "Night shift"
    with pytest.raises(errors.InvalidCommand) as refused:
        alerts.channel(name="Night, day", url=receiver.url)
    assert "comma" in refused.value.fields["name"]
