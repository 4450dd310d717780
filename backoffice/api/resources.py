"""The views of the four kinds of records, each with its description."""

from __future__ import annotations

from typing import Final

from backoffice import listing
from backoffice.api import openapi, records
from backoffice.api.records import FORMS, SETTINGS, SUBMISSIONS, USERS, Resource
from backoffice.api.streams import CONSISTENT
from events import types

FILTER_HELP: Final = {
    "active": "Signed in during the last 30 days.",
    "deleted": "`false` (as without it): living records; `true`: deleted ones; `any`: both.",
}
COMMON: Final = (400, 401, 403, 429)
REASON: Final = openapi.query("reason", "Why: required for some fields.", {"type": "string", "maxLength": 200})
WRITES: Final = (400, 401, 403, 404, 410, 412, 413, 415, 422, 428, 429)

IF_MATCH = openapi.header("If-Match", "The ETag of the version that was read; `*` for whatever it is.", required=True)
IF_NONE_MATCH = openapi.header("If-None-Match", "The ETag already held: 304 when it is still the version.")
IDEMPOTENCY = openapi.header(
    "Idempotency-Key",
    "A UUID: the same request again returns the first answer.",
    schema={"type": "string", "format": "uuid"},
)


def _listing(resource: Resource) -> dict[str, openapi.Operation]:
    spec = resource.spec
    sorts = [f"{sign}{name}" for name in spec.sorts for sign in ("", "-")]
    limit = {"type": "integer", "minimum": 1, "maximum": listing.MAX_LIMIT, "default": listing.LIMIT}
    parameters = [
        *(openapi.query(name, FILTER_HELP.get(name, ""), {"type": "string"}) for name in spec.filters),
        openapi.query("search", f"Words to be found in {', '.join(spec.search)}, or an id.", {"type": "string"}),
        openapi.query("sort", "", {"type": "string", "enum": sorts, "default": spec.default_sort}),
        openapi.query("limit", "How many.", limit),
        openapi.query("cursor", "`next_cursor` or `previous_cursor` of a page of the same sort.", {"type": "string"}),
        CONSISTENT,
    ]
    operation = openapi.Operation(
        id=f"list_{resource.name}",
        summary=f"A page of {resource.name}",
        tag=resource.name,
        parameters=tuple(parameters),
        response=openapi.ref(f"{resource.shape}Page"),
        errors=COMMON,
        scope=f"{resource.name}:read",
    )
    return {"GET": operation}


def _single(resource: Resource) -> dict[str, openapi.Operation]:
    key = openapi.in_path("key", "The setting's name." if resource.key == "key" else "The record's UUID.")
    found = {
        "GET": openapi.Operation(
            id=f"read_{resource.category}",
            summary=f"One {resource.category}",
            tag=resource.name,
            parameters=(key, IF_NONE_MATCH, CONSISTENT),
            response=openapi.ref(resource.shape),
            errors=(304, *COMMON, 404),
            scope=f"{resource.name}:read",
            etag=True,
        ),
        "DELETE": _write(resource, key, "delete", f"Delete a {resource.category}"),
    }
    if resource.update:
        body = types.command_type_of(resource.update).cls.__name__
        found["PATCH"] = _write(resource, key, "update", f"Change fields of a {resource.category}", body)
    return found


def _write(
    resource: Resource, key: openapi.Schema, verb: str, summary: str, body: str | None = None
) -> openapi.Operation:
    return openapi.Operation(
        id=f"{verb}_{resource.category}",
        summary=summary,
        description="What others changed meanwhile is merged; 412 with the present ETag when it cannot be.",
        tag=resource.name,
        parameters=(key, IF_MATCH, IDEMPOTENCY, REASON),
        request={openapi.JSON: openapi.ref(body)} if body else None,
        response=openapi.ref("Applied"),
        errors=WRITES,
        scope=f"{resource.name}:write",
        etag=True,
        merges=True,
    )


class UserList(records.RecordList):
    resource = USERS
    operations = _listing(USERS)


class FormList(records.RecordList):
    resource = FORMS
    operations = _listing(FORMS)


class SubmissionList(records.RecordList):
    resource = SUBMISSIONS
    operations = _listing(SUBMISSIONS)


class SettingList(records.RecordList):
    resource = SETTINGS
    operations = _listing(SETTINGS)


class UserRecord(records.EditableRecord):
    resource = USERS
    operations = _single(USERS)


class FormRecord(records.EditableRecord):
    resource = FORMS
    operations = _single(FORMS)


class SubmissionRecord(records.Record):
    resource = SUBMISSIONS
    operations = _single(SUBMISSIONS)


class SettingRecord(records.EditableRecord):
    resource = SETTINGS
    operations = _single(SETTINGS)
