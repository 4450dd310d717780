"""Permissions of topics: people by role, programs by role and scope."""

from __future__ import annotations

import pytest

from backoffice import access, models, topics
from backoffice.sections.staff import keys, sockets
from realtime import topics as registry

pytestmark = pytest.mark.django_db


def staff(role: str) -> models.Staff:
    return models.Staff.objects.create_user(username=role, role=role, is_staff=True)


def holder(role: str, *scopes: str) -> tuple[models.ApiKey, str]:
    return keys.create(name="a program", owner=staff(role), scopes=scopes)


def may(who: object, name: str) -> bool:
    found = registry.find(name)
    assert found is not None
    return found[0].may_subscribe(who)


def test_key_subscribes_within_its_scopes_and_the_rights_of_its_owner() -> None:
    _key, token = holder("agent", "users:read")
    identity = sockets.by_api_key(token)
    assert identity is not None
    assert may(identity.principal, "users")
    assert not may(identity.principal, "forms"), "the owner may, the key may not"
    assert not may(identity.principal, "dashboard")


def test_scope_never_exceeds_the_rights_of_the_owner() -> None:
    _key, token = holder("viewer", "*")
    identity = sockets.by_api_key(token)
    assert identity is not None
    assert may(identity.principal, "users")
    assert not may(identity.principal, "settings")


def test_revoked_key_or_key_of_a_former_member_is_refused() -> None:
    key, token = holder("agent", "users:read")
    identity = sockets.by_api_key(token)
    assert identity is not None
    models.Staff.objects.filter(pk=key.owner_id).update(is_active=False)
    assert identity.again() is None
    assert sockets.by_api_key("fe_nonsense.nonsense") is None


def test_frame_omits_fields_hidden_from_the_role() -> None:
    assert access.role_hidden_fields("viewer", "user") == {"email"}
    found = registry.find("users")
    assert found is not None
    assert found[0].projection_key(staff("viewer")) != found[0].projection_key(staff("manager"))


@pytest.mark.parametrize("role", ["admin", "manager", "agent", "viewer", "dpo"])
def test_dashboard_is_open_to_staff_and_system_requires_a_right(role: str) -> None:
    person = staff(role)
    assert may(person, "dashboard")
    assert may(person, "system") is access.may(person, "view", "system")
    person.is_active = False
    assert not may(person, "dashboard")
    assert not may(person, "system")


@pytest.mark.parametrize(
    ("role", "scopes", "allowed"),
    [
        ("manager", ["system:read"], True),
        ("manager", ["system:*"], True),
        ("manager", ["*"], True),
        ("manager", ["events:read"], False),
        ("agent", ["system:read"], False),
        ("agent", ["*"], False),
    ],
)
def test_key_subscribes_to_the_system_with_its_scope_and_the_right_of_its_owner(
    role: str, scopes: list[str], allowed: bool
) -> None:
    identity = sockets.by_api_key(holder(role, *scopes)[1])
    assert identity is not None
    assert may(identity.principal, "system") is allowed


def test_undeclared_value_is_sent_only_to_administrators(monkeypatch: pytest.MonkeyPatch) -> None:
    assert topics.may_see_widget(staff("admin"), "unknown")
    assert not topics.may_see_widget(staff("manager"), "unknown")
    monkeypatch.setitem(topics.WIDGETS, "head", ("view", "system", "system:read"))
    assert topics.may_see_widget(models.Staff.objects.get(username="manager"), "head:main")
    assert not topics.may_see_widget(staff("agent"), "head:main")
