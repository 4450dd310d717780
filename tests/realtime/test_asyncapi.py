"""The AsyncAPI description is generated from the frames and topics, and is complete."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from django.test import RequestFactory

from realtime import asyncapi, frames, topics, views

COPY = Path(__file__).resolve().parents[2] / "docs" / "asyncapi.json"


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return msgspec.json.decode(asyncapi.document())


def resolve(described: dict[str, Any], reference: str) -> Any:
    assert reference.startswith("#/")
    found: Any = described
    for step in reference.removeprefix("#/").split("/"):
        found = found[step.replace("~1", "/")]
    return found


def references(part: Any) -> list[str]:
    if isinstance(part, dict):
        own = [part["$ref"]] if "$ref" in part else []
        return own + [one for value in part.values() for one in references(value)]
    return [one for value in part for one in references(value)] if isinstance(part, list) else []


def test_description_has_every_frame_and_nothing_else(described: dict[str, Any]) -> None:
    ways = {"receive": frames.CLIENT_FRAMES, "send": frames.SERVER_FRAMES}
    for action, kinds in ways.items():
        operation = next(one for one in described["operations"].values() if one["action"] == action)
        messages = [resolve(described, resolve(described, one["$ref"])["$ref"]) for one in operation["messages"]]
        payloads = [resolve(described, message["payload"]["$ref"]) for message in messages]
        types = [payload["properties"]["type"]["enum"] for payload in payloads]
        assert types == [[kind.__struct_config__.tag] for kind in kinds]
        for message, payload, kind in zip(messages, payloads, kinds, strict=True):
            assert message["name"] == kind.__struct_config__.tag
            assert set(payload["properties"]) == {"type", *kind.__struct_encode_fields__}
            assert payload["description"]


def test_every_reference_in_the_description_resolves(described: dict[str, Any]) -> None:
    found = references(described)
    assert found
    for reference in found:
        assert resolve(described, reference) is not None


def test_description_has_the_structure_of_asyncapi_3(described: dict[str, Any]) -> None:
    assert described["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= described["info"].keys()
    (name,) = described["channels"]
    channel = described["channels"][name]
    assert channel["address"] == "/ws/admin/"
    assert channel["bindings"]["ws"]["method"] == "GET"
    for operation in described["operations"].values():
        assert operation["action"] in {"send", "receive"}
        assert operation["channel"] == {"$ref": f"#/channels/{name}"}
        assert operation["messages"]
        for message in operation["messages"]:
            assert message["$ref"].startswith(f"#/channels/{name}/messages/")
    for server in described["servers"].values():
        assert {"host", "protocol"} <= server.keys()


def test_each_example_frame_is_accepted_by_client_and_server(described: dict[str, Any]) -> None:
    for message in described["components"]["messages"].values():
        decode = frames.decode_client if message["x-direction"] == "to server" else frames.decode_server
        assert message["examples"]
        for example in message["examples"]:
            frame = decode(msgspec.json.encode(example["payload"]))
            assert type(frame).__struct_config__.tag == message["name"]


def test_topics_and_close_codes_are_listed(described: dict[str, Any]) -> None:
    assert described["x-topics"] == topics.names()
    assert {"users", "user:{key}", "dashboard"} <= set(described["x-topics"])
    assert described["x-close-codes"]["4505"]["reconnect"] is False
    assert described["x-close-codes"]["4408"]["reconnect"] is True


def test_documented_copy_of_the_description_is_current() -> None:
    """`manage.py asyncapi > docs/asyncapi.json` updates it."""
    assert COPY.read_bytes() == asyncapi.document()


def test_description_is_public() -> None:
    answer = views.asyncapi_json(RequestFactory().get("/asyncapi.json"))
    assert answer.status_code == 200
    assert answer["Content-Type"] == "application/json"
    assert answer.content == asyncapi.document()
