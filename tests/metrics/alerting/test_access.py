"""Permissions for alerts, rules and silences: on pages, in the API, history, exports and sockets."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.urls import reverse

from backoffice import access, topics
from events import store
from events.types import new_id
from metrics.monitoring.alerting import models
from realtime import topics as live_topics
from tests.backoffice import api_client
from tests.backoffice.api_client import ROLES, Caller, problem, signed_in
from tests.metrics.alerting.samples import Samples

pytestmark = pytest.mark.django_db

ACTORS = ("admin", "manager")
READERS = ("agent", "viewer", "dpo")
VERBS = ("acknowledge", "unacknowledge", "comment", "close", "escalate")
RULE = {"title": "Queue", "metric": "queue.depth", "warn": 100}


@pytest.fixture
def firing(samples: Samples, cpu: str) -> str:
    samples.tick("cpu.percent", [85] * 6)
    assert models.Alert.objects.get(pk=cpu).state == "firing"
    return cpu


def body(verb: str, episode: int = 1) -> dict[str, Any]:
    return {"text": "Looking."} if verb == "comment" else {"episode": episode}


def silence(**fields: Any) -> dict[str, Any]:
    return {"title": "Upgrade", "ends_at": (datetime.now(UTC) + timedelta(hours=1)).isoformat(), **fields}


@pytest.mark.parametrize("role", ROLES)
def test_everybody_on_the_staff_sees_alerts_rules_and_silences(firing: str, role: str) -> None:
    caller = signed_in(role)
    signed_in("admin").post("silences/", silence())
    for address in ("alerts/", f"alerts/{firing}/", "rules/", f"rules/{firing}/", "silences/"):
        assert caller.get(address).status_code == 200, address
    key = models.Silence.objects.get().pk
    for name, args in (
        ("alerts_list", []),
        ("alerts_alert", [firing]),
        ("alerts_count", []),
        ("backoffice_rule_changelist", []),
        ("backoffice_rule_change", [firing]),
        ("backoffice_rule_history", [firing]),
        ("backoffice_silence_changelist", []),
        ("backoffice_silence_change", [key]),
    ):
        assert caller.client.get(reverse(f"admin:{name}", args=args)).status_code == 200, name


def test_nobody_else_sees_anything(firing: str) -> None:
    stranger = Caller()
    for address in ("alerts/", f"alerts/{firing}/", "rules/", "silences/"):
        assert stranger.get(address).status_code == 401
    gone = Caller(api_client.staff("manager", is_active=False))
    assert gone.client.get(reverse("admin:alerts_list")).status_code == 302
    assert access.may(gone.person, "view", "alert") is False


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("role", READERS)
def test_readers_cannot_act_on_an_alert(firing: str, role: str, verb: str) -> None:
    caller, version = signed_in(role), store.version_of(f"alert-{firing}")
    problem(caller.post(f"alerts/{firing}/{verb}/", body(verb)), 403, "forbidden")
    page = caller.client.post(reverse("admin:alerts_act", args=[firing, verb]), body(verb))
    assert page.status_code == 403
    problem(caller.command(f"alert.{verb}", firing, {**body(verb), "by": "staff:1"}), 400, "unknown_command")
    assert store.version_of(f"alert-{firing}") == version


@pytest.mark.parametrize("role", ACTORS)
def test_admins_and_managers_act_on_an_alert(firing: str, role: str) -> None:
    caller = signed_in(role)
    done = caller.post(f"alerts/{firing}/acknowledge/", {"episode": 1, "note": "Mine."}).json()
    assert (done["state"], done["owner"], done["note"]) == ("acknowledged", f"staff:{caller.person.pk}", "Mine.")
    assert caller.post(f"alerts/{firing}/comment/", {"text": "Looking."}).status_code == 200
    assert caller.post(f"alerts/{firing}/escalate/", {"episode": 1}).json()["step"] == 1
    assert caller.post(f"alerts/{firing}/unacknowledge/", {"episode": 1}).json()["state"] == "firing"
    closed = caller.post(f"alerts/{firing}/close/", {"episode": 1, "why": "Known."}).json()
    assert closed["state"] == "closed"
    assert [event["event"] for event in closed["events"]][1:] == [
        "alert.acknowledged",
        "alert.commented",
        "alert.escalated",
        "alert.unacknowledged",
        "alert.closed",
    ]


@pytest.mark.parametrize("verb", ["acknowledge", "close", "escalate", "unacknowledge"])
def test_past_episode_cannot_be_acted_on(firing: str, samples: Samples, verb: str) -> None:
    admin = signed_in("admin")
    problem(admin.post(f"alerts/{firing}/{verb}/", {"episode": 2}), 409, "past_episode")
    samples.tick("cpu.percent", [50] * 20 + [85] * 6)
    problem(admin.post(f"alerts/{firing}/{verb}/", {"episode": 1}), 409, "past_episode")
    page = admin.client.post(reverse("admin:alerts_act", args=[firing, verb]), {"episode": "1"}, follow=True)
    assert "This episode of the alert is over." in page.content.decode()
    assert models.Alert.objects.get(pk=firing).state == "firing"


@pytest.mark.parametrize("role", [*READERS, "manager"])
def test_only_admins_change_rules(firing: str, role: str) -> None:
    caller = signed_in(role)
    problem(caller.post("rules/", {"id": "queue", **RULE}), 403, "forbidden")
    problem(caller.patch(f"rules/{firing}/", {"warn": 1}, If_Match="*"), 403, "forbidden")
    problem(caller.delete(f"rules/{firing}/", If_Match="*"), 403, "forbidden")
    for command, data in (("create", RULE), ("update", {"warn": 1}), ("delete", {}), ("restore", {})):
        problem(caller.command(f"rule.{command}", firing, data), 403, "forbidden")
    for name, args in (("add", []), ("delete", [firing]), ("restore", [firing]), ("rollback", [firing, 1])):
        page = caller.client.post(reverse(f"admin:backoffice_rule_{name}", args=args), {})
        assert page.status_code == 403, name
    assert caller.client.post(reverse("admin:backoffice_rule_change", args=[firing]), {}).status_code == 403
    assert store.version_of(f"rule-{firing}") == 1


@pytest.mark.parametrize("role", READERS)
def test_readers_cannot_change_silences(samples: Samples, role: str) -> None:
    caller = signed_in(role)
    problem(caller.post("silences/", silence()), 403, "forbidden")
    problem(caller.command("silence.create", new_id(), silence()), 403, "forbidden")
    assert caller.client.post(reverse("admin:backoffice_silence_add"), {}).status_code == 403
    assert not models.Silence.objects.exists()


def test_keys_need_the_scope_of_what_they_do(firing: str) -> None:
    reader = api_client.program("alerts:read", "rules:read", role="admin")
    assert reader.get("alerts/").status_code == 200
    assert reader.post("rules/preview/", {"id": firing}).status_code == 200
    problem(reader.post(f"alerts/{firing}/acknowledge/", {"episode": 1}), 403, "missing_scope")
    problem(reader.post("rules/", {"id": "queue", **RULE}), 403, "missing_scope")
    problem(reader.get("silences/"), 403, "missing_scope")
    writer = api_client.program("alerts:write", role="manager")
    assert writer.post(f"alerts/{firing}/acknowledge/", {"episode": 1}).status_code == 200
    problem(writer.get("rules/"), 403, "missing_scope")
    weak = api_client.program("alerts:write", role="viewer")
    problem(weak.post(f"alerts/{firing}/comment/", {"text": "x"}), 403, "forbidden")


def test_stream_of_an_alert_is_read_by_those_who_read_the_log(firing: str) -> None:
    for role in ROLES:
        expected = 200 if access.role_may(role, "view", "event") else 403
        assert signed_in(role).get(f"streams/alert-{firing}/").status_code == expected, role
    problem(api_client.program("alerts:read").get(f"streams/alert-{firing}/"), 403, "missing_scope")


def test_socket_follows_alerts_with_the_right_of_the_staff() -> None:
    topic, _key = live_topics.find("alerts") or pytest.fail("no topic")
    assert all(topic.allows(api_client.staff(role), None) for role in ROLES)
    assert not topic.allows(api_client.staff("manager", is_active=False), None)
    program = {"is_active": True, "is_staff": True, "is_superuser": False, "role": "manager"}
    assert not topic.allows(topics.KeyHolder(**program, scopes=("users:read",)), None)
    for name, key in (("rules", None), ("silences", None), ("rule:high_cpu", "high_cpu")):
        found = live_topics.find(name)
        assert found is not None
        assert all(found[0].allows(api_client.staff(role), key) for role in ROLES)


def test_export_of_one_person_has_no_alerts(firing: str) -> None:
    """Alerts concern no person: their events have no subject, so no export contains and no erasure changes them."""
    from events import types

    named = [one for one in types.event_types() if one.name.partition(".")[0] in ("alert", "rule", "silence")]
    assert len(named) == 19
    assert all(one.subject is None and not one.personal for one in named)


@pytest.mark.parametrize("role", ROLES)
def test_pages_offer_only_what_the_role_may_do(firing: str, role: str) -> None:
    page = signed_in(role).client.get(reverse("admin:alerts_alert", args=[firing])).content.decode()
    offered = set(re.findall(rf'action="[^"]*/alerts/{firing}/(\w+)/"', page))
    assert offered == ({"acknowledge", "comment", "escalate", "close"} if role in ACTORS else set())
    rule = signed_in(role).client.get(reverse("admin:backoffice_rule_change", args=[firing])).content.decode()
    assert ("data-edit" in rule) == (role == "admin")
