"""Reads records of every kind, as lists and individually, and updates them based on the version that was read.

Queries select only the columns that the caller may see.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from django.db.models import Model
from django.http import Http404
from django.urls import path
from django.urls.resolvers import URLPattern
from rest_framework.request import Request
from rest_framework.response import Response

from backoffice import access, extensions, listing
from backoffice.api import commands as command_view
from backoffice.api import openapi, permissions, problems, views
from backoffice.api.streams import CONSISTENT
from backoffice.section import Kind
from events import errors, store, types

ETAG = re.compile(r'(?:W/)?"v([0-9]{1,18})"')
LIST_PARAMETERS: Final = ("search", "sort", "limit", "cursor", "consistent")


def visible(kind: Kind, request: Request) -> tuple[str, ...]:
    """Returns the fields of the kind's struct that this caller may see."""
    assert kind.shape is not None
    hidden = access.hidden_fields(request.user, kind.category)
    return tuple(name for name in kind.shape.__struct_fields__ if name not in hidden)


# -- lists ----------------------------------------------------------------------------------------------------------


class RecordList(views.View):
    """Lists records in pages."""

    reads_standby = True
    kind: ClassVar[Kind]

    def feeding(self) -> Sequence[str]:
        return (*self.fed_by, *extensions.fed_by(self.kind))

    def get(self, request: Request) -> Response:
        kind = self.kind
        permissions.require_view(request, kind.category)
        page = _page(request, kind)
        pk = kind.spec.pk
        added = extensions.api_item_values(kind, [item[pk] for item in page.items], request.user)
        items = [item | added[item[pk]] for item in page.items] if added else page.items
        return Response({"items": items, "page_info": page_info(page)})


class PostedList(RecordList):
    """A list to which a new record can be posted."""

    def post(self, request: Request) -> Response:
        """Create a record. Its id is that of the body; without one, that of the request."""
        views.allow_parameters(request, ("reason",))
        data, command_id = dict(command_view.as_object(request.data)), _idempotency_key(request)
        key = data.pop("id", str(command_id) if self.kind.is_uuid_keyed else None)
        if not isinstance(key, str):
            raise errors.InvalidCommand(fields={"id": "This field is required."})
        command = command_view.command_of(
            request, id=command_id, type=self.kind.create or "", key=key, data=data, reason=views.reason(request)
        )
        result = command_view.send(request, command)
        return Response(command_view.shown(request, result), headers={"ETag": etag(result.version)})


def _page(request: Request, kind: Kind) -> listing.Page:
    """Returns the requested page. The error for an unknown filter or sort lists those that this caller may use."""
    spec, asked = kind.spec, request.query_params
    hidden = access.hidden_fields(request.user, kind.category)
    filters = [name for name in spec.filters if name not in hidden]
    sorts = [name for name in spec.sorts if name not in hidden]
    views.allow_parameters(request, [*LIST_PARAMETERS, *filters])
    sort = asked.get("sort") or spec.default_sort
    if sort.removeprefix("-") not in sorts:
        detail = f"{kind.name} cannot be sorted by {sort!r}; known: {', '.join(sorts)}."
        raise problems.malformed(detail, listing.UnknownSort.code, parameter="sort", allowed=sorts)
    return listing.page(
        spec,
        sort=sort,
        cursor=asked.get("cursor") or None,
        limit=views.integer(request, "limit", listing.LIMIT, least=1, most=listing.MAX_LIMIT),
        filters={name: asked[name] for name in filters if asked.get(name, "") != ""},
        search=asked.get("search", ""),
        hidden=hidden,
        columns=listing.Columns.of(visible(kind, request), extensions.api_columns(kind, request.user)),
    )


def row(item: Model, columns: Sequence[str]) -> dict[str, Any]:
    return {column: getattr(item, column) for column in columns}


def page_info(page: listing.Page) -> dict[str, Any]:
    return {
        "has_next_page": page.has_next,
        "has_previous_page": page.has_previous,
        "next_cursor": page.next_cursor,
        "previous_cursor": page.previous_cursor,
        "total_count": page.total_count,
        "total_is_exact": page.total_is_exact,
    }


# -- one record -----------------------------------------------------------------------------------------------------


class ReadableRecord(views.View):
    """Reads a record, with its version as ETag."""

    kind: ClassVar[Kind]

    def feeding(self) -> Sequence[str]:
        return (*self.fed_by, *extensions.fed_by(self.kind, in_record=True))

    def get(self, request: Request, key: str) -> Response:
        permissions.require_view(request, self.kind.category)
        views.allow_parameters(request, ("consistent",))
        columns = visible(self.kind, request)
        found = self.kind.model._default_manager.only(*columns).filter(pk=self._key(key)).first()
        if found is None:
            raise Http404
        shown = row(found, columns)
        headers = {"ETag": etag(shown["version"])}
        added = extensions.api_values(self.kind, [found.pk], request.user)
        # Fields of extensions change without the version, so an unchanged version does not mean "not modified".
        if not added and _matches(request.headers.get("If-None-Match", ""), shown["version"]):
            return Response(status=304, headers=headers)
        return Response(shown | added.get(found.pk, {}), headers=headers)

    def _key(self, key: str) -> str:
        try:
            return self.kind.key(key)
        except errors.InvalidCommand:
            raise Http404 from None

    def _write(self, request: Request, key: str, command: str, data: Mapping[str, Any]) -> Response:
        """Sends a command based on the version in `If-Match`; a conflict is answered with 412."""
        views.allow_parameters(request, ("reason",))
        asked = command_view.command_of(
            request,
            id=_idempotency_key(request),
            type=command,
            key=self._key(key),
            data=data,
            reason=views.reason(request),
        )
        stream = types.stream_name(self.kind.category, asked.key)
        base = _if_match(request, stream)
        try:
            result = command_view.send(request, _based(asked, base))
        except errors.Conflict as conflict:
            raise _stale(conflict) from conflict
        return Response(command_view.shown(request, result), headers={"ETag": etag(result.version)})


class Record(ReadableRecord):
    """Reads or deletes a record."""

    def delete(self, request: Request, key: str) -> Response:
        return self._write(request, key, self.kind.delete or "", {})


class EditableRecord(Record):
    """Reads, updates or deletes a record."""

    def patch(self, request: Request, key: str) -> Response:
        assert self.kind.update is not None
        return self._write(request, key, self.kind.update, command_view.as_object(request.data))


def etag(version: int) -> str:
    return f'"v{version}"'


def _matches(header: str, version: int) -> bool:
    return header.strip() == "*" or str(version) in ETAG.findall(header)


def _based(command: types.Command, base: int | None) -> types.Command:
    return types.Command(id=command.id, key=command.key, data=command.data, base_version=base, reason=command.reason)


def _idempotency_key(request: Request) -> uuid.UUID:
    """Returns the `Idempotency-Key` header; without it a new id, so that a repeated request is a new command."""
    name = "Idempotency-Key"
    text = request.headers.get(name)
    if text is None:
        return types.new_id()
    try:
        return uuid.UUID(text.strip('"'))  # the command rejects UUIDs of the version that the server uses
    except ValueError:
        raise problems.malformed("Idempotency-Key must be a UUID.", "invalid_header", parameter=name) from None


def _if_match(request: Request, stream: str) -> int | None:
    """Returns the version in `If-Match`; None for ``*``.

    Raises 428 without the header, 404 without the record, and 412 for a version that never existed.
    """
    header = request.headers.get("If-Match", "").strip()
    if not header:
        detail = 'Send If-Match with the ETag of the version you read, such as "v3", so that no change is overwritten.'
        raise problems.Problem(428, "precondition_required", detail)
    current = store.version_of(stream)
    if current == 0:
        raise Http404
    if header == "*":
        return None
    found = ETAG.fullmatch(header)
    if found is None or not 1 <= int(found[1]) <= current:
        raise _precondition_failed(current)
    return int(found[1])


def _stale(conflict: errors.Conflict) -> problems.Problem:
    names = ("base_version", "version", "base", "theirs", "mine", "fields", "conflicts", "conflict_id")
    return _precondition_failed(conflict.version, **{name: getattr(conflict, name) for name in names})


def _precondition_failed(current: int, **extra: Any) -> problems.Problem:
    detail = f"The record is at version {current} and your change cannot be merged into it."
    return problems.Problem(412, "precondition_failed", detail, headers={"ETag": etag(current)}, **extra)


# -- addresses and their description ----------------------------------------------------------------------------------

FILTER_HELP: Final = {
    "deleted": "`false` (default): records that are not deleted; `true`: deleted ones; `any`: both.",
}
SEARCH_HELP: Final = (
    "Words in {}, or an id. Case and accents are ignored. Words with three letters or digits in a row are found "
    "anywhere in a field. If all words are shorter, each is found at the beginning of a field."
)
COMMON: Final = (400, 401, 403, 429)
REASON: Final = openapi.query("reason", "The reason: required for some fields.", {"type": "string", "maxLength": 200})
WRITES: Final = (400, 401, 403, 404, 410, 412, 413, 415, 422, 428, 429)

IF_MATCH = openapi.header("If-Match", "The ETag of the version that was read; `*` for any version.", required=True)
IF_NONE_MATCH = openapi.header("If-None-Match", "The ETag of a cached response: 304 if the version is the same.")
IDEMPOTENCY = openapi.header(
    "Idempotency-Key",
    "A UUID: the same request again returns the first answer.",
    schema={"type": "string", "format": "uuid"},
)


def _list_operations(kind: Kind) -> dict[str, openapi.Operation]:
    assert kind.shape is not None
    spec = kind.spec
    sorts = [f"{sign}{name}" for name in spec.sorts for sign in ("", "-")]
    limit = {"type": "integer", "minimum": 1, "maximum": listing.MAX_LIMIT, "default": listing.LIMIT}
    parameters = [
        *(
            openapi.query(name, {**FILTER_HELP, **kind.filter_help}.get(name, ""), {"type": "string"})
            for name in spec.filters
        ),
        openapi.query("search", SEARCH_HELP.format(", ".join(spec.search)), {"type": "string", "maxLength": 200}),
        openapi.query(
            "sort", "Empty: the default.", {"type": "string", "enum": [*sorts, ""], "default": spec.default_sort}
        ),
        openapi.query("limit", "Maximum number of items.", limit),
        openapi.query(
            "cursor",
            "`next_cursor` or `previous_cursor` of a page of the same sort. Opaque; it reveals nothing.",
            {"type": "string"},
        ),
        CONSISTENT,
    ]
    operation = openapi.Operation(
        id=f"list_{kind.name}",
        summary=f"List {kind.name}",
        tag=kind.name,
        parameters=tuple(parameters),
        response=openapi.ref(f"{kind.shape.__name__}Page"),
        errors=(*COMMON, 503, *_late(kind)),
        scope=f"{kind.name}:read",
    )
    return {"GET": operation, **(_post_operation(kind) if kind.is_posted else {})}


def _post_operation(kind: Kind) -> dict[str, openapi.Operation]:
    assert kind.shape is not None
    operation = openapi.Operation(
        id=f"create_{kind.category}",
        summary=f"Create a {kind.category}",
        tag=kind.name,
        parameters=(IDEMPOTENCY, REASON),
        request={openapi.JSON: openapi.ref(f"New{kind.shape.__name__}")},
        response=openapi.ref("Applied"),
        errors=(400, 401, 403, 409, 413, 415, 422, 429),
        scope=f"{kind.name}:write",
        etag=True,
    )
    return {"POST": operation}


def _record_operations(kind: Kind) -> dict[str, openapi.Operation]:
    assert kind.shape is not None
    key = openapi.in_path("key", kind.key_help)
    found = {
        "GET": openapi.Operation(
            id=f"read_{kind.category}",
            summary=f"Read a {kind.category}",
            tag=kind.name,
            parameters=(key, IF_NONE_MATCH, CONSISTENT),
            response=openapi.ref(kind.shape.__name__),
            errors=(304, *COMMON, 404, *_late(kind, in_record=True)),
            scope=f"{kind.name}:read",
            etag=True,
        ),
    }
    if kind.delete:
        found["DELETE"] = _write(kind, key, "delete", f"Delete a {kind.category}")
    if kind.update:
        body = types.command_type_of(kind.update).cls.__name__
        found["PATCH"] = _write(kind, key, "update", f"Change fields of a {kind.category}", body)
    return found


def _late(kind: Kind, *, in_record: bool = False) -> tuple[int, ...]:
    """Returns the error 504 if ``consistent=1`` waits for subscriptions, otherwise nothing."""
    return (504,) if extensions.fed_by(kind, in_record=in_record) else ()


def _write(kind: Kind, key: openapi.Schema, verb: str, summary: str, body: str | None = None) -> openapi.Operation:
    return openapi.Operation(
        id=f"{verb}_{kind.category}",
        summary=summary,
        description="Concurrent changes are merged; if that is impossible, the answer is 412 with the current ETag.",
        tag=kind.name,
        parameters=(key, IF_MATCH, IDEMPOTENCY, REASON),
        request={openapi.JSON: openapi.ref(body)} if body else None,
        response=openapi.ref("Applied"),
        errors=WRITES,
        scope=f"{kind.name}:write",
        etag=True,
        merges=True,
    )


def urls_of(kind: Kind) -> list[URLPattern]:
    """Returns the URLs of a kind: its list and its records. Empty for a kind without `shape`."""
    if kind.shape is None:
        return []
    name = kind.shape.__name__
    record = EditableRecord if kind.update else Record if kind.delete else ReadableRecord
    base = PostedList if kind.is_posted else RecordList
    many: Any = type(f"{name}List", (base,), {"kind": kind, "operations": _list_operations(kind)})
    one: Any = type(f"{name}Record", (record,), {"kind": kind, "operations": _record_operations(kind)})
    return [
        path(f"{kind.name}/", many.as_view(), name=f"api-{kind.name}"),
        path(f"{kind.name}/<str:key>/", one.as_view(), name=f"api-{kind.category}"),
    ]
