"""An erased e-mail address is in no response of the API and the pages, and in no value in Valkey."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import redis
import yaml

from events.types import new_id
from tests import live
from tests.flows.people import Person

pytestmark = pytest.mark.services

VIEWS = ("change", "history", "delete")
SCHEMA = live.PROJECT / "docs" / "openapi.yaml"


def reads() -> list[str]:
    """The paths of all GET operations of the API."""
    described = yaml.load(SCHEMA.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return [path for path, methods in described["paths"].items() if "get" in methods]


READ = {
    b"string": lambda client, key: client.get(key),
    b"hash": lambda client, key: client.hgetall(key),
    b"list": lambda client, key: client.lrange(key, 0, -1),
    b"set": lambda client, key: client.smembers(key),
    b"zset": lambda client, key: client.zrange(key, 0, -1),
    b"stream": lambda client, key: client.xrange(key),
    b"none": lambda _client, _key: None,  # it has expired since the scan
}


def values(client: Any) -> dict[bytes, str]:
    """Every key of Valkey with its value."""
    return {key: repr(READ[client.type(key)](client, key)) for key in client.scan_iter(count=1_000)}


def test_address_of_an_erased_person_is_at_no_address_and_in_no_cache(
    stack: live.Stack, person: Callable[[str], Person]
) -> None:
    admin, officer = person("admin"), person("dpo")
    name = f"quimper{new_id().hex}"
    address = f"{name}@example.org"
    user = admin.create("user", email=address)
    form = admin.create("form", user_id=user, title=f"Letters of {address}")
    submission = admin.create("submission", form_id=form, answers={"q": f"{address}, yes"})
    listed = {
        "/api/v1/users/{key}/": user,
        "/api/v1/forms/{key}/": form,
        "/api/v1/submissions/{key}/": submission,
        "/api/v1/streams/{stream}/": f"user-{user}",
        "/api/v1/streams/{stream}/state/": f"user-{user}",
    }
    templates = reads()
    paths = [re.sub(r"\{\w+\}", listed.get(path, user), path) for path in templates]
    paths += [f"/api/v1/{kind}/?search={name}" for kind in ("users", "forms")]
    paths += ["/api/v1/events/?after=0&limit=1000", f"/admin/search/?q={name}", "/admin/"]
    for category, key in (("user", user), ("form", form), ("submission", submission)):
        paths += [f"/admin/backoffice/{category}/", *(f"/admin/backoffice/{category}/{key}/{view}/" for view in VIEWS)]
        paths += [f"/admin/events/storedevent/?stream={category}-{key}"]

    def holding(whom: str) -> set[str]:
        caller = person(whom)
        texts = {path: caller.send("GET", path).text for path in paths}
        asked = re.compile(rf'value="{name}"|q={name}')  # a page that found nothing repeats what was asked
        return {path for path, text in texts.items() if name in asked.sub("", text)}

    shown = holding("admin")
    assert {f"/api/v1/users/{user}/", "/api/v1/users/", f"/api/v1/users/?search={name}", "/admin/"} <= shown
    assert len(shown) > 20

    erased = officer.command("user.erase", user, reason="asked by letter")
    assert erased.status == 200
    with person("viewer").listen("users") as listener:
        listener.wait_for(
            admin.command("user.create", str(new_id()), {"email": f"{new_id()}@example.org"}).json()["position"]
        )
    for role in live.ROLES:
        assert holding(role) == set(), role

    client = redis.Redis.from_url(stack.env["REDIS_URL"])
    found = values(client)
    client.close()
    assert found
    assert not [key for key, value in found.items() if name in repr(key) + value]
