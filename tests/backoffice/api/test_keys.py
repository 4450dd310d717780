"""API keys from creation to revocation, each recorded in the stream of the owner."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from backoffice.models import ApiKey
from backoffice.sections.staff import keys
from events import store
from tests.backoffice import api_client

pytestmark = pytest.mark.django_db
LIST = "admin:backoffice_apikey_changelist"


def recorded(key: ApiKey) -> list[tuple[str, dict[str, Any]]]:
    return [(event.type, event.data) for event in store.read_stream(f"staff-{key.owner_id}")]


def make() -> tuple[ApiKey, str]:
    return keys.create(name="program", owner=api_client.staff("manager"), scopes=["users:read"])


def opened(token: str) -> int:
    return Client().get("/api/v1/users/", headers={"Authorization": f"Bearer {token}"}).status_code


def signed_in(role: str) -> Client:
    client = Client()
    client.force_login(api_client.staff(role))
    return client


def test_key_creation_is_recorded_without_the_secret() -> None:
    key, token = make()
    assert recorded(key) == [("staff.key_created", {"key": key.prefix, "name": "program", "scopes": ["users:read"]})]
    assert token.partition(".")[2] not in json.dumps(recorded(key))


def test_key_revoked_on_the_command_line_is_refused_and_recorded_once() -> None:
    key, token = make()
    assert opened(token) == 200
    for argument, revoked in ((f"fe_{key.prefix}", True), (token, False)):
        out = StringIO()
        call_command("revoke_api_key", argument, "--json", stdout=out)
        assert json.loads(out.getvalue()) == {"key": key.prefix, "revoked": revoked}
    assert opened(token) == 401
    assert recorded(key)[1:] == [("staff.key_revoked", {"key": key.prefix})]
    with pytest.raises(CommandError, match="No API key is called fe_nobody"):
        call_command("revoke_api_key", "fe_nobody")


def test_administrator_lists_and_revokes_keys() -> None:
    key, token = make()
    other, other_token = make()
    admin = signed_in("admin")
    page = admin.get(reverse(LIST)).content.decode()
    assert f"fe_{key.prefix}" in page
    assert key.secret_hash not in page
    admin.post(reverse(LIST), {"action": "revoke", "_selected_action": [key.pk]})
    assert (opened(token), opened(other_token)) == (401, 200)
    assert [kind for kind, _ in recorded(key)].count("staff.key_revoked") == 1
    assert admin.get(reverse("admin:backoffice_apikey_change", args=[other.pk])).status_code == 200
    assert admin.post(reverse("admin:backoffice_apikey_change", args=[other.pk]), {"name": "x"}).status_code == 403
    assert admin.post(reverse("admin:backoffice_apikey_delete", args=[other.pk])).status_code == 403


@pytest.mark.parametrize("role", ["manager", "agent", "viewer", "dpo"])
def test_other_roles_neither_list_nor_revoke_keys(role: str) -> None:
    key, token = make()
    somebody = signed_in(role)
    assert somebody.get(reverse(LIST)).status_code == 403
    assert somebody.post(reverse(LIST), {"action": "revoke", "_selected_action": [key.pk]}).status_code == 403
    assert somebody.get(reverse("admin:backoffice_apikey_change", args=[key.pk])).status_code == 403
    assert opened(token) == 200
