"""The dashboard as pages: what each role sees, and that each tile fails alone."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from metrics.dashboard import layouts, widgets
from tests.backoffice import api_client

pytestmark = pytest.mark.django_db


def signed_in(role: str) -> tuple[Client, Any]:
    client, person = Client(), api_client.staff(role)
    client.force_login(person)
    return client, person


@pytest.mark.parametrize("role", api_client.ROLES)
def test_each_role_sees_its_default_without_forbidden_tiles(role: str) -> None:
    client, person = signed_in(role)
    answer = client.get(reverse("admin:index"))
    assert answer.status_code == 200
    filled = answer.context["tiles"]
    assert [one.tile.kind for one in filled] == [tile.kind for tile in layouts.default(person).tiles]
    assert {one.state for one in filled} == {"fresh"}
    assert all(widgets.may_see(person, one.tile.kind, {}) for one in filled)
