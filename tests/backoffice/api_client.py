"""Callers of the API through Django's client: staff of each role with a session, programs with a key."""

from __future__ import annotations

import uuid
from typing import Any

import orjson
from django.test import Client

from backoffice.models import ApiKey, Staff
from backoffice.sections.staff import keys

BASE = "/api/v1/"
ROLES = ("admin", "manager", "agent", "viewer", "dpo")
CATEGORIES = ("user", "form", "submission", "setting")


def staff(role: str, **fields: Any) -> Staff:
    name = f"{role}-{uuid.uuid4().hex[:8]}"
    return Staff.objects.create_user(
        username=name, role=role, **{"is_staff": True, "is_superuser": role == "admin", **fields}
    )


class Caller:
    """Sends and reads JSON. `raises=False`: a server error is a response (500), as for a real client."""

    def __init__(self, person: Staff | None = None, token: str | None = None, *, raises: bool = True) -> None:
        self.client = Client(raise_request_exception=raises)
        self.person = person
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}
        if person is not None and token is None:
            self.client.force_login(person)

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        content = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
        kind = headers.pop("content_type", "application/json")
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        where = path if path.startswith("/") else BASE + path
        return self.client.generic(method, where, content, content_type=kind, headers={**self.headers, **named})

    def get(self, path: str, **headers: str) -> Any:
        return self.send("GET", path, **headers)

    def post(self, path: str, body: Any, **headers: str) -> Any:
        return self.send("POST", path, body, **headers)

    def patch(self, path: str, body: Any, **headers: str) -> Any:
        return self.send("PATCH", path, body, **headers)

    def delete(self, path: str, **headers: str) -> Any:
        return self.send("DELETE", path, **headers)

    def command(self, kind: str, key: object, data: Any = None, **more: Any) -> Any:
        body = {"id": str(uuid.uuid4()), "type": kind, "key": str(key), "data": data or {}, **more}
        return self.post("commands/", body)


def signed_in(role: str, **fields: Any) -> Caller:
    return Caller(staff(role, **fields))


def program(*scopes: str, role: str = "manager", **fields: Any) -> Caller:
    """Creates a key of an owner with `role` and returns its caller; `fields` are changed in the key's row directly."""
    key, token = keys.create(name="program", owner=staff(role), scopes=scopes)
    if fields:
        ApiKey.objects.filter(pk=key.pk).update(**fields)
    return Caller(key.owner, token)


def email() -> str:
    return f"{uuid.uuid4().hex}@example.org"


def problem(response: Any, status: int, code: str) -> dict[str, Any]:
    """Checks that a response is a well-formed problem with this status and code; returns its body."""
    assert response.status_code == status, response.content
    assert response.headers["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert (body["status"], body["code"]) == (status, code), body
    assert body["type"].endswith(code)
    assert body["title"]
    assert body["detail"]
    return body
