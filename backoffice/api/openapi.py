"""Generates the API's OpenAPI description from the `operations` of the views and from the structs.

A command that is added to the domain is described automatically.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from importlib import import_module
from typing import Any, Final

import msgspec
from drf_spectacular.openapi import AutoSchema

from backoffice import section
from events import types

JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"
REF_TEMPLATE: Final = "#/components/schemas/{name}"

Schema = dict[str, Any]


def ref(name: str) -> Schema:
    return {"$ref": REF_TEMPLATE.format(name=name)}


def query(name: str, description: str, schema: Schema) -> Schema:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def in_path(name: str, description: str) -> Schema:
    return {"name": name, "in": "path", "required": True, "description": description, "schema": {"type": "string"}}


def header(name: str, description: str, *, required: bool = False, schema: Schema | None = None) -> Schema:
    shape = schema or {"type": "string"}
    return {"name": name, "in": "header", "required": required, "description": description, "schema": shape}


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One method of one URL: parameters, request, response, errors, and the scope that a key needs.

    `merges`: it updates a record, so its 409 may be a conflict of two versions.
    """

    id: str
    summary: str
    tag: str
    response: Schema
    errors: tuple[int, ...]
    scope: str
    description: str = ""
    parameters: tuple[Schema, ...] = ()
    request: Mapping[str, Schema] | None = None
    etag: bool = False
    merges: bool = False

    def described(self) -> Schema:
        found: Schema = {
            "operationId": self.id,
            "summary": self.summary,
            "description": "\n\n".join(filter(None, [self.description, f"Scope: `{self.scope}`."])),
            "tags": [self.tag],
            "security": [{"apiKey": []}, {"session": []}],
            "responses": self._responses(),
        }
        if self.parameters:
            found["parameters"] = list(self.parameters)
        if self.request:
            content = {kind: {"schema": schema} for kind, schema in self.request.items()}
            found["requestBody"] = {"required": _needs_body(self.request), "content": content}
        return found

    def _responses(self) -> Schema:
        done: Schema = {"description": "Done.", "content": {JSON: {"schema": self.response}}}
        if self.etag:
            done["headers"] = {"ETag": {"description": 'The version, as `"v<version>"`.', "schema": {"type": "string"}}}
        refusals = {str(status): _refusal(status, merges=self.merges) for status in self.errors}
        return {"200": done, **refusals}


def _refusal(status: int, *, merges: bool) -> Schema:
    if status == HTTPStatus.NOT_MODIFIED:
        return {"description": "Not modified."}
    shape = ref("Problem")
    if status in {HTTPStatus.CONFLICT, HTTPStatus.PRECONDITION_FAILED} and merges:
        shape = {"anyOf": [ref("ConflictProblem"), ref("Problem")]}
    return {"description": f"{HTTPStatus(status).phrase}.", "content": {PROBLEM: {"schema": shape}}}


def _needs_body(request: Mapping[str, Schema]) -> bool:
    """Returns whether a body is required: an omitted one is an empty object, valid if all fields are optional."""
    structs = [_struct(schema.get("$ref", "").rpartition("/")[2]) for schema in request.values()]
    return any(struct is None or _needs_data(struct) for struct in structs)


def _struct(name: str) -> type[msgspec.Struct] | None:
    """Returns the struct of a component; None if the component is not a single struct."""
    commands = {kind.cls.__name__: kind.cls for kind in types.command_types()}
    return next((struct for struct in _declared() if struct.__name__ == name), commands.get(name))


@functools.cache
def _declared() -> list[type[msgspec.Struct]]:
    """Returns the structs of `api.shapes` and of the sections."""
    from backoffice.api import shapes  # noqa: PLC0415 - only the schema needs them

    declared = [one.api_shapes for one in section.sections() if one.api_shapes]
    names = [name for some in declared for name in ((some,) if isinstance(some, str) else some)]
    modules = [shapes, *map(import_module, names)]
    return [
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, msgspec.Struct) and value.__module__ == module.__name__
    ]


class Described(AutoSchema):
    """Reads the operation from the view's `operations`, because there are no serializers."""

    def get_operation(self, path: str, path_regex: str, path_prefix: str, method: str, registry: Any) -> Schema | None:
        operations: Mapping[str, Operation] = getattr(self.view, "operations", {})
        return operations[method].described() if method in operations else None


# -- components -----------------------------------------------------------------------------------------------------


def add_components(result: Schema, **_: Any) -> Schema:
    """Adds the schemas of structs and the authentication methods; a postprocessing hook of drf-spectacular."""
    result["components"] = {
        "schemas": dict(sorted(_schemas().items())),
        "securitySchemes": {
            "apiKey": {"type": "http", "scheme": "bearer", "description": "`fe_<key>.<secret>`"},
            "session": {
                "type": "apiKey",
                "in": "cookie",
                "name": "sessionid",
                "description": "A signed-in member of staff; writes also need the header `X-CSRFToken`.",
            },
        },
    }
    return result


@functools.cache
def _schemas() -> Schema:
    from backoffice.api import shapes  # noqa: PLC0415 - only the schema needs them

    wanted = [struct for struct in _declared() if struct.__name__ not in {"Shape", "Envelope"}]
    for record in section.kinds():
        if record.shape is not None:
            item = shapes.item_of(record)
            wanted += [shapes.record_of(record), item, shapes.page_of(item, record.shape.__name__)]
            wanted += [shapes.new_of(record)] if record.is_posted else []
    known = [kind for kind in types.command_types() if section.find(kind.name.partition(".")[0])]
    _, components = msgspec.json.schema_components([*wanted, *(kind.cls for kind in known)], ref_template=REF_TEMPLATE)
    for schema in components.values():
        if "description" in schema:  # indented paragraphs would be shown as code
            schema["description"] = inspect.cleandoc(schema["description"])
    envelope = msgspec.json.schema(shapes.Envelope)["$defs"]["Envelope"]
    return components | _commands(known, envelope)


def _commands(known: list[types.CommandType], envelope: Schema) -> Schema:
    """Returns a schema for each command, and `Command`, the union of them, discriminated by `type`."""
    found = {_component(kind): _command(kind, envelope) for kind in known}
    mapping = {kind.name: REF_TEMPLATE.format(name=_component(kind)) for kind in known}
    found["Command"] = {
        "oneOf": [ref(name) for name in found],
        "discriminator": {"propertyName": "type", "mapping": mapping},
    }
    return found


def _component(kind: types.CommandType) -> str:
    return f"{kind.cls.__name__}Command"


def _command(kind: types.CommandType, envelope: Schema) -> Schema:
    properties = envelope["properties"] | {"type": {"const": kind.name}, "data": ref(kind.cls.__name__)}
    text = (kind.cls.__doc__ or "").strip()
    documented = {"description": text} if text and not text.startswith(f"{kind.cls.__name__}(") else {}
    required = ["id", "type", "key", *(["data"] if _needs_data(kind.cls) else [])]
    return {"title": kind.name, "type": "object", **documented, "properties": properties, "required": required}


def _needs_data(struct: type[msgspec.Struct]) -> bool:
    return any(field.required for field in msgspec.structs.fields(struct))
