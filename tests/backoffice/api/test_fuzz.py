"""Any input is answered with a result or a refusal, and everything stored can be read again."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events import types
from tests import factories
from tests.backoffice import api_client
from tests.events.interleaving import LONG

pytestmark = pytest.mark.django_db

KINDS = [kind.name for kind in types.command_types() if kind.name.partition(".")[0] in api_client.CATEGORIES]
FIELDS = sorted({name for kind in types.command_types() for name in kind.cls.__struct_fields__})

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8"), max_size=30),
    st.sampled_from(
        ["a@b.c", "free", "owner", "1600-02-29T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"]
    ),
    st.uuids().map(str),
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
field = st.fixed_dictionaries({}, optional={"id": scalars, "type": scalars, "label": scalars, "options": values})
data = st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, values) | {"fields": st.lists(field, max_size=3)})


@pytest.fixture
def place() -> dict[str, Any]:
    owner = factories.user()
    return {
        "user": str(owner),
        "form": str(factories.form(owner)),
        "submission": str(factories.submission()),
        "setting": "a.setting",
    }


@settings(
    max_examples=1_000 if LONG else 30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    kind=st.sampled_from(KINDS), sent=data, fill=st.booleans(), base=st.none() | st.integers(0, 3), fresh=st.booleans()
)
def test_no_command_causes_a_server_error(
    place: dict[str, Any], kind: str, sent: dict[str, Any], fill: bool, base: int | None, fresh: bool
) -> None:
    caller = api_client.Caller(api_client.staff("admin"), raises=False)
    category = kind.partition(".")[0]
    known = types.command_type_of(kind).cls.__struct_fields__
    body = {name: value for name, value in sent.items() if name in known or not fill}
    if fill:
        body = _needed(kind, place) | body
    key = str(uuid.uuid4()) if fresh and category != "setting" else place[category]
    response = caller.command(kind, key, body, base_version=base)
    assert response.status_code in {200, 404, 409, 413, 422, 400}, response.content
    if response.status_code == 200 and response.json()["events"]:
        stream = response.json()["stream"]
        for path in (f"{category}s/?deleted=any" if category != "setting" else "settings/", f"streams/{stream}/state/"):
            assert caller.get(path).status_code == 200
        found = caller.get(f"{category}s/{key}/")
        assert found.status_code == (404 if kind == "setting.remove" else 200), found.content


def _needed(kind: str, place: dict[str, Any]) -> dict[str, Any]:
    return {
        "user.create": {"email": api_client.email()},
        "form.create": {"user_id": place["user"], "title": "A form"},
        "submission.receive": {"form_id": place["form"], "answers": {}},
        "setting.set": {"value": 1},
    }.get(kind, {})
