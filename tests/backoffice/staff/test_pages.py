"""Pages of staff logins: for administrators, who cannot lock themselves out; every change is recorded."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.test import Client
from django.urls import reverse

from backoffice.models import Staff
from events import store
from realtime import auth

pytestmark = pytest.mark.django_db
PASSWORD = "a long enough pass phrase"


@pytest.fixture(autouse=True)
def quick_hashes(settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def boss() -> Staff:
    return Staff.objects.create_user("boss", password=PASSWORD, role="admin", is_staff=True, is_superuser=True)


@pytest.fixture
def agent() -> Staff:
    return Staff.objects.create_user("agent", password=PASSWORD, role="agent", is_staff=True)


@pytest.fixture
def admin(boss: Staff) -> Client:
    client = Client()
    client.force_login(boss)
    return client


def recorded(login: Staff) -> list[tuple[str, dict[str, Any]]]:
    return [(event.type, event.data) for event in store.read_stream(f"staff-{login.pk}")]


def change(client: Client, login: Staff, **fields: Any) -> Any:
    data = {"username": login.username, "first_name": "", "last_name": "", "email": "", "role": login.role}
    data |= {"is_active": "on"} if login.is_active else {}
    data |= fields
    return client.post(reverse("admin:backoffice_staff_change", args=[login.pk]), {k: v for k, v in data.items() if v})


def test_new_login_signs_in_and_is_recorded(admin: Client) -> None:
    form = {
        "username": "new",
        "usable_password": "true",
        "password1": PASSWORD,
        "password2": PASSWORD,
        "role": "viewer",
    }
    assert admin.post(reverse("admin:backoffice_staff_add"), form).status_code == 302
    login = Staff.objects.get(username="new")
    assert recorded(login) == [("staff.created", {"username": "new", "role": "viewer"})]
    assert Client().login(username="new", password=PASSWORD)
    assert login.is_staff


def test_new_role_is_recorded(admin: Client, agent: Staff) -> None:
    assert change(admin, agent, role="manager").status_code == 302
    assert recorded(agent) == [("staff.role_changed", {"before": "agent", "after": "manager"})]


def test_deactivated_login_is_recorded_and_refused(admin: Client, agent: Staff) -> None:
    assert change(admin, agent, is_active="").status_code == 302
    assert recorded(agent) == [("staff.deactivated", {})]
    assert not Client().login(username="agent", password=PASSWORD)


def test_unchanged_login_records_nothing(admin: Client, agent: Staff) -> None:
    assert change(admin, agent).status_code == 302
    assert recorded(agent) == []


def test_password_set_for_another_person_is_recorded_without_the_password(admin: Client, agent: Staff) -> None:
    address = reverse("admin:auth_user_password_change", args=[agent.pk])
    form = {"password1": "another long pass phrase", "password2": "another long pass phrase", "usable_password": "true"}
    assert admin.post(address, form).status_code == 302
    assert recorded(agent) == [("staff.password_changed", {})]


def test_own_password_change_is_recorded(agent: Staff) -> None:
    client = Client()
    client.force_login(agent)
    new = "another long pass phrase"
    form = {"old_password": PASSWORD, "new_password1": new, "new_password2": new}
    assert client.post(reverse("admin:password_change"), form).status_code == 302
    assert recorded(agent) == [("staff.password_changed", {})]


def test_sign_out_records_the_session_without_its_key(agent: Staff) -> None:
    client = Client()
    client.force_login(agent)
    key = client.session.session_key
    assert key
    client.post(reverse("admin:logout"))
    assert recorded(agent) == [("staff.logged_out", {"session": auth.session_digest(key)})]


def test_signing_out_everywhere_ends_all_sessions_of_a_login(admin: Client, agent: Staff) -> None:
    other = Client()
    other.force_login(agent)
    form = {"action": "sign_out", "_selected_action": [agent.pk]}
    assert admin.post(reverse("admin:backoffice_staff_changelist"), form).status_code == 302
    assert recorded(agent) == [("staff.session_revoked", {})]
    assert other.get(reverse("admin:index")).status_code == 302
    assert Session.objects.count() == 1


def test_administrator_cannot_change_their_own_rights(admin: Client, boss: Staff) -> None:
    change(admin, boss, role="viewer", is_active="")
    boss.refresh_from_db()
    assert (boss.role, boss.is_active, boss.is_superuser) == ("admin", True, True)


@pytest.mark.parametrize("role", ["manager", "agent", "viewer", "dpo"])
def test_other_roles_cannot_open_the_staff_pages(boss: Staff, role: str) -> None:
    login = Staff.objects.create_user(role, password=PASSWORD, role=role, is_staff=True)
    client = Client()
    client.force_login(login)
    for view, args in (("changelist", []), ("add", []), ("change", [boss.pk])):
        assert client.get(reverse(f"admin:backoffice_staff_{view}", args=args)).status_code == 403
    assert "/staff/" not in client.get(reverse("admin:index")).content.decode()


def test_login_is_never_deleted(admin: Client, agent: Staff) -> None:
    assert admin.post(reverse("admin:backoffice_staff_delete", args=[agent.pk]), {"post": "yes"}).status_code == 403
    assert Staff.objects.filter(pk=agent.pk).exists()
