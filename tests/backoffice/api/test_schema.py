"""The API description is valid, current and complete, and its pages obey the content security policy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from django.core.management import call_command
from django.urls import get_resolver
from drf_spectacular.validation import validate_schema

from backoffice import section
from backoffice.api import views
from events import types
from tests import factories, live
from tests.backoffice import api_client

SCHEMA = Path(__file__).parents[3] / "docs" / "openapi.yaml"


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> str:
    target = tmp_path_factory.mktemp("schema") / "openapi.yaml"
    call_command("spectacular", file=str(target), fail_on_warn=True)
    return target.read_text()


@pytest.fixture(scope="module")
def schema(generated: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.load(generated, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return found


def test_committed_description_is_current(generated: str) -> None:
    assert SCHEMA.read_text() == generated, "run: manage.py spectacular --file docs/openapi.yaml"


def test_description_is_valid(schema: dict[str, Any]) -> None:
    validate_schema(schema)
    for component in schema["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(component)


def test_descriptions_are_not_indented(schema: dict[str, Any]) -> None:
    texts = {name: component.get("description", "") for name, component in schema["components"]["schemas"].items()}
    indented = [name for name, text in texts.items() if any(line.startswith(" ") for line in text.splitlines())]
    assert not indented, "Markdown shows indented paragraphs as code"


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (text for name, text in value.items() if name == "$ref")
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_every_reference_resolves_and_every_operation_has_a_unique_name(schema: dict[str, Any]) -> None:
    known = {f"#/components/schemas/{name}" for name in schema["components"]["schemas"]}
    assert set(references(schema)) <= known
    names = [operation["operationId"] for path in schema["paths"].values() for operation in path.values()]
    assert len(names) == len(set(names))


def addresses(patterns: Iterable[Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Returns every URL pattern with the prefixes of its includes."""
    for found in patterns:
        inner = getattr(found, "url_patterns", None)
        if inner is None:
            yield prefix, found
        else:
            yield from addresses(inner, prefix + str(found.pattern))


def test_every_url_and_method_is_documented(schema: dict[str, Any]) -> None:
    described = schema["paths"]
    api = next(found for found in get_resolver().url_patterns if str(found.pattern) == "api/")
    checked = 0
    for prefix, route in addresses(api.url_patterns):
        view = getattr(route.callback, "cls", None)
        if view is None or not issubclass(view, views.View) or view.schema is None:
            continue
        methods = {name for name in ("get", "post", "put", "patch", "delete") if hasattr(view, name)}
        path = f"/api/{prefix}" + str(route.pattern).replace("<str:", "{").replace(">", "}")
        assert described[path].keys() == methods, path
        checked += 1
    assert checked == len(described)


def test_every_command_is_documented_by_its_type(schema: dict[str, Any]) -> None:
    schemas = schema["components"]["schemas"]
    mapping = schemas["Command"]["discriminator"]["mapping"]
    known = {kind.name for kind in types.command_types()}
    assert mapping.keys() == {name for name in known if section.find(name.partition(".")[0])}
    create = schemas[mapping["user.create"].rpartition("/")[2]]
    assert create["properties"]["data"] == {"$ref": "#/components/schemas/CreateUser"}
    assert "email" in schemas["CreateUser"]["required"]


def test_documented_command_accepts_the_input_of_the_api(schema: dict[str, Any]) -> None:
    validator = jsonschema.Draft202012Validator({"$ref": "#/components/schemas/Command", **schema})
    body = {"id": "018f0000-0000-7000-8000-000000000000", "type": "user.create", "key": "k", "data": {"email": "a@b.c"}}
    assert validator.is_valid(body)
    assert not validator.is_valid(body | {"data": {}})
    assert not validator.is_valid(body | {"type": "user.promote"})
    assert not validator.is_valid(body | {"data": {"email": "a@b.c", "plan": "gold"}})


@pytest.mark.django_db
def test_refusal_of_a_write_to_an_erased_record_is_documented(schema: dict[str, Any]) -> None:
    key = str(factories.user())
    officer = api_client.signed_in("dpo")
    assert officer.command("user.erase", key, reason="Asked by letter").status_code == 200
    api_client.problem(api_client.signed_in("manager").command("user.update", key, {"first_name": "A"}), 410, "erased")
    for path, method in (
        ("/api/v1/commands/", "post"),
        ("/api/v1/ingest/", "post"),
        ("/api/v1/users/{key}/", "patch"),
        ("/api/v1/users/{key}/", "delete"),
    ):
        assert "410" in schema["paths"][path][method]["responses"], path


@pytest.mark.django_db
def test_anonymous_visitor_reads_the_description() -> None:
    response = api_client.Caller().get("/api/schema/?format=json")
    assert response.status_code == 200
    assert response.json()["openapi"].startswith("3.1")
    page = api_client.Caller().get("/api/docs/")
    assert page.status_code == 200
    assert b"<script>" not in page.content
    assert b"style=" not in page.content
    assert api_client.Caller().post("/api/docs/", {}).status_code == 405


@pytest.mark.browser
@pytest.mark.services
def test_description_pages_obey_the_content_security_policy(stack: live.Stack, new_page: Callable[..., Any]) -> None:
    page, errors = new_page("manager", at=""), []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto("/api/docs/")
    page.wait_for_selector("text=/api/v1/commands/")
    page.click("#operations-users-list_users .opblock-summary-control")
    page.click("#operations-users-list_users .try-out__btn")
    page.click("#operations-users-list_users .execute")
    page.wait_for_selector("#operations-users-list_users .live-responses-table .response-col_status >> text=200")
    assert errors == []
