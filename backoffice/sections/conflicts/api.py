"""API of the conflict inbox: list, read, resolve, assign, comment, dismiss, reopen.

Fields that are hidden from a role are hidden in conflicts too. People who may send a command may resolve its conflict.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

from django.http import Http404
from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response

from backoffice import access, listing, models, section
from backoffice.api import commands as command_view
from backoffice.api import openapi, permissions, problems, records, views
from backoffice.api import shapes as api_shapes
from backoffice.sections.conflicts import domain, inbox, shapes, situations
from events import store, types
from events.conflicts import values
from events.types import CommandData

PARAMETERS: Final = ("status", "mine", "team", "record", "sort", "limit", "cursor")
ERRORS: Final = (400, 401, 403, 404, 429)
WRITES: Final = (400, 401, 403, 404, 409, 410, 413, 415, 422, 429)
KEY: Final = openapi.in_path("key", "The conflict's id.")
READ_SCOPE: Final = "the read scope of the record"
WRITE_SCOPE: Final = "the write scope of the record"


# -- shown ----------------------------------------------------------------------------------------------------------


def item(row: models.Conflict, staff: Any) -> dict[str, Any]:
    """Returns a conflict as an item of a list."""
    role = access.role_of(staff)
    return {
        "id": row.pk,
        "status": row.status,
        "stream": row.stream,
        "command": row.command_type,
        "why": row.why,
        "fields": [path for path in row.paths if access.role_sees(role, row.category, path)],
        "reason": row.reason,
        "base_version": row.base_version,
        "author": row.author,
        "author_name": row.author_name,
        "assignee": row.assignee_id,
        "comments": row.comments,
        "created_at": row.created_at,
        "closed_at": row.closed_at,
        "version": row.version,
    }


def whole(row: models.Conflict, staff: Any) -> dict[str, Any]:
    """Returns a conflict with its three filed versions, its present state and the actions on it."""
    now = situations.situation(row.pk)
    role = access.role_of(staff)
    filed = access.redact(staff, domain.CATEGORY, types.to_builtins(now.filed))
    places = [types.to_builtins(place.to_dict()) for place in now.open_places]
    events = store.read_stream(types.stream_name(domain.CATEGORY, row.pk))
    current = {
        "version": now.version,
        "record": access.redact(staff, row.category, now.theirs),
        "conflicts": [place for place in places if access.role_sees(role, row.category, place["path"])],
        "merged": access.redact(staff, row.category, now.merge.values) if now.is_edit else None,
    }
    sides = {name: filed.get(name, {}) for name in ("base", "theirs", "mine")}
    return {
        **item(row, staff),
        **sides,
        "data": filed["command"].get("data", {}),
        "record_version": now.filed.version,
        "source": now.filed.source,
        "now": current,
        "events": [
            {**event.to_wire(), "data": access.redact(staff, domain.CATEGORY, event.data)} for event in events[1:]
        ],
    }


def readable(request: Request) -> list[str]:
    """Returns the kinds of record that the caller may read: by role, and for an API key by its scopes."""
    found = []
    for category in inbox.categories(request.user):
        try:
            permissions.require_scope(request, f"{section.kind(category).name}:read")
        except problems.Problem:
            continue
        found.append(category)
    if not found:
        permissions.require_scope(request, *(f"{kind.name}:read" for kind in section.kinds()))
        raise problems.forbidden("conflict.view")
    return found


def found(request: Request, key: str) -> models.Conflict:
    """Returns the conflict. Raises `Http404` if it does not exist or the caller may not see it."""
    try:
        row = inbox.visible(request.user, readable(request)).filter(pk=uuid.UUID(key)).first()
    except ValueError:
        row = None
    if row is None:
        raise Http404
    return row


# -- views ----------------------------------------------------------------------------------------------------------


class ConflictList(views.View):
    """Lists conflicts by age, in pages."""

    reads_standby = True
    operations = {
        "GET": openapi.Operation(
            id="list_conflicts",
            summary="List conflicts",
            tag="conflicts",
            parameters=(
                openapi.query(
                    "status",
                    "",
                    {"type": "string", "enum": ["open", "resolved", "dismissed", "any"], "default": "open"},
                ),
                openapi.query(
                    "mine", "Conflicts assigned to you, and unassigned conflicts of your changes.", {"type": "boolean"}
                ),
                openapi.query("team", "The same for everybody with your role.", {"type": "boolean"}),
                openapi.query(
                    "sort",
                    "Newest or oldest first. Empty: newest first.",
                    {"type": "string", "enum": ["-created_at", "created_at", ""]},
                ),
                openapi.query("record", "Only conflicts of this record, given by its stream.", {"type": "string"}),
                openapi.query(
                    "limit", "Maximum number of items.", {"type": "integer", "minimum": 1, "maximum": listing.MAX_LIMIT}
                ),
                openapi.query("cursor", "`next_cursor` or `previous_cursor` of a page.", {"type": "string"}),
            ),
            response=openapi.ref("ConflictPage"),
            errors=(400, 401, 403, 429),
            scope=READ_SCOPE,
        )
    }

    def get(self, request: Request) -> Response:
        kinds = readable(request)
        views.allow_parameters(request, PARAMETERS)
        page = listing.page(
            inbox.SPEC,
            sort=request.query_params.get("sort") or None,
            cursor=request.query_params.get("cursor") or None,
            limit=views.integer(request, "limit", listing.LIMIT, least=1, most=listing.MAX_LIMIT),
            queryset=_asked(request, inbox.visible(request.user, kinds)),
        )
        items = [item(row, request.user) for row in page.items]
        return Response({"items": items, "page_info": records.page_info(page)})


def _asked(request: Request, rows: Any) -> Any:
    asked = request.query_params
    status = asked.get("status", "open")
    if status not in (*models.Conflict.Status.values, "any"):
        detail = "status takes open, resolved, dismissed or any."
        raise problems.malformed(detail, "invalid_filter", parameter="status")
    if status != "any":
        rows = rows.filter(status=status)
    for name in ("mine", "team"):
        if asked.get(name, "false") not in ("true", "false"):
            raise problems.malformed(f"{name} takes true or false.", "invalid_filter", parameter=name)
        if asked.get(name) == "true":
            rows = rows.filter(inbox.WHOSE[name](request.user))
    if "record" in asked:
        rows = rows.filter(category=types.category_of(asked["record"]), key=types.key_of(asked["record"]))
    return rows


class Conflict(views.View):
    """Reads one conflict."""

    operations = {
        "GET": openapi.Operation(
            id="read_conflict",
            summary="Read a conflict with its three versions and its present state",
            tag="conflicts",
            parameters=(KEY,),
            response=openapi.ref("ConflictRecord"),
            errors=ERRORS,
            scope=READ_SCOPE,
        )
    }

    def get(self, request: Request, key: str) -> Response:
        row = found(request, key)
        views.allow_parameters(request, ())
        return Response(whole(row, request.user))


def _operation(verb: str, summary: str, shape: str, description: str = "") -> dict[str, openapi.Operation]:
    operation = openapi.Operation(
        id=f"{verb}_conflict",
        summary=summary,
        description=description,
        tag="conflicts",
        parameters=(KEY,),
        request={openapi.JSON: openapi.ref(shape)},
        response=openapi.ref("Settled" if verb == "resolve" else "ConflictRecord"),
        errors=WRITES,
        scope=WRITE_SCOPE,
    )
    return {"POST": operation}


class _Action(views.View):
    """Base of the actions on one conflict."""

    def post(self, request: Request, key: str) -> Response:
        row = found(request, key)
        views.allow_parameters(request, ())
        permissions.require_scope(request, f"{section.kind(row.category).name}:write")
        answer = self.act(request, row, command_view.as_object(request.data))
        return Response(answer)

    def act(self, request: Request, row: models.Conflict, body: Mapping[str, Any]) -> dict[str, Any]:
        raise NotImplementedError

    def _done(self, request: Request, row: models.Conflict) -> dict[str, Any]:
        return whole(models.Conflict.objects.get(pk=row.pk), request.user)


class Resolve(_Action):
    operations = _operation(
        "resolve",
        "Resolve a conflict",
        "Resolution",
        "`choices` maps the path of each conflict to `theirs`, `mine` or `value`; `values` contains typed values. They "
        "are merged with the current record. With `version`, the answer is 409 `conflict_moved` if the open conflicts "
        "have changed since.",
    )

    def act(self, request: Request, row: models.Conflict, body: Mapping[str, Any]) -> dict[str, Any]:
        asked = api_shapes.checked(shapes.Resolution, body)
        for where in {**asked.choices, **asked.values}:
            if where != situations.WHOLE and not values.is_path(where):
                raise problems.malformed(f"{where[:100]!r} is not a path such as fields[q3].label.")
        hidden = [where for where in {**asked.choices, **asked.values} if not self._sees(request, row, where)]
        if hidden:
            raise problems.forbidden(f"{row.category}.{hidden[0]}")
        settled = self._settled(request, row, asked)
        result = command_view.shown(request, settled.result) if settled.result else None
        return {"conflict": self._done(request, row), "result": result, "version": settled.version}

    def _settled(self, request: Request, row: models.Conflict, asked: shapes.Resolution) -> inbox.Settled:
        try:
            return inbox.resolve(
                row.pk, request.user, asked.choices, asked.values, reason=asked.reason, seen=asked.version
            )
        except inbox.Moved as moved:
            raise problems.Problem(409, moved.code, moved.message, now=self._done(request, row)["now"]) from moved

    def _sees(self, request: Request, row: models.Conflict, path: str) -> bool:
        return path == situations.WHOLE or access.role_sees(access.role_of(request.user), row.category, path)


def _simple(build: Callable[[Any, Request], CommandData]) -> Any:
    def act(self: Any, request: Request, row: models.Conflict, body: Mapping[str, Any]) -> dict[str, Any]:
        asked = api_shapes.checked(self.shape, body)
        inbox.act(row.pk, request.user, build(asked, request), getattr(asked, "reason", None))
        return self._done(request, row)  # type: ignore[no-any-return]

    return act


class Assign(_Action):
    shape = shapes.Assignment
    operations = _operation("assign", "Assign a conflict", "Assignment", "A login's number, `me`, or null for nobody.")

    act = _simple(
        lambda asked, request: domain.AssignConflict(
            assignee=request.user.pk if asked.assignee == "me" else asked.assignee
        )
    )


class Comment(_Action):
    shape = shapes.Remark
    operations = _operation("comment", "Comment on a conflict", "Remark")
    act = _simple(lambda asked, _: domain.CommentConflict(text=asked.text))


class Dismiss(_Action):
    shape = api_shapes.Because
    operations = _operation("dismiss", "Discard the change of a conflict", "Because")
    act = _simple(lambda _asked, _: domain.DismissConflict())


class Reopen(_Action):
    shape = api_shapes.Because
    operations = _operation("reopen", "Reopen a discarded conflict", "Because")
    act = _simple(lambda _asked, _: domain.ReopenConflict())


urlpatterns = [
    path("conflicts/", ConflictList.as_view(), name="api-conflicts"),
    path("conflicts/<str:key>/", Conflict.as_view(), name="api-conflict"),
    path("conflicts/<str:key>/resolve/", Resolve.as_view(), name="api-conflict-resolve"),
    path("conflicts/<str:key>/assign/", Assign.as_view(), name="api-conflict-assign"),
    path("conflicts/<str:key>/comment/", Comment.as_view(), name="api-conflict-comment"),
    path("conflicts/<str:key>/dismiss/", Dismiss.as_view(), name="api-conflict-dismiss"),
    path("conflicts/<str:key>/reopen/", Reopen.as_view(), name="api-conflict-reopen"),
]
