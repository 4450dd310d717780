"""`dashboard/layouts/`: the layout of the caller, its export and import, and shared copies."""

from __future__ import annotations

import re
import uuid
from typing import Any, Final

import msgspec
from django.http import Http404
from django.urls import path, reverse
from rest_framework.request import Request
from rest_framework.response import Response

from backoffice.api import commands as command_view
from backoffice.api import openapi, permissions, problems, views
from backoffice.api import shapes as api_shapes
from metrics.dashboard import layouts, shapes
from metrics.dashboard.models import SharedLayout

READ: Final = "dashboard:read"
WRITE: Final = "dashboard:write"
READS: Final = (400, 401, 403, 429)
WRITES: Final = (400, 401, 403, 412, 413, 415, 422, 428, 429)
ETAG: Final = re.compile(r'(?:W/)?"v([0-9]{1,18})"')
IF_MATCH: Final = openapi.header(
    "If-Match", "The ETag of the layout that was read; `*` for whatever it is.", required=True
)
OPTIONAL_IF_MATCH: Final = openapi.header("If-Match", "The ETag of the layout that was read.")
COPY: Final = openapi.in_path("key", "The id of the shared copy.")
FILE: Final = 'attachment; filename="dashboard.json"'


def _operation(
    name: str, summary: str, response: str, scope: str = WRITE, body: str = "", description: str = "", **more: Any
) -> openapi.Operation:
    return openapi.Operation(
        id=name,
        summary=summary,
        description=description,
        tag="dashboard",
        request={openapi.JSON: openapi.ref(body)} if body else None,
        response=openapi.ref(response),
        scope=scope,
        **{"errors": READS if scope == READ else WRITES, **more},
    )


class Layout(views.View):
    """The layout of the caller."""

    operations = {
        "GET": _operation(
            "read_dashboard_layout",
            "The caller's layout, else the default of the role",
            "SavedDashboardLayout",
            READ,
            etag=True,
        ),
        "PUT": _operation(
            "save_dashboard_layout",
            "Save the caller's layout",
            "SavedDashboardLayout",
            body="DashboardLayout",
            description="412 with the present `ETag` when it was saved elsewhere since. The default has version 0.",
            parameters=(IF_MATCH,),
            etag=True,
        ),
        "DELETE": _operation(
            "reset_dashboard_layout",
            "Return to the default of the role",
            "SavedDashboardLayout",
            parameters=(OPTIONAL_IF_MATCH,),
            errors=(400, 401, 403, 412, 429),
            etag=True,
        ),
    }

    def get(self, request: Request) -> Response:
        permissions.require_scope(request, READ)
        views.allow_parameters(request, ())
        return _saved(request)

    def put(self, request: Request) -> Response:
        permissions.require_scope(request, WRITE)
        views.allow_parameters(request, ())
        base = _base(request, required=True)
        layout = layouts.checked(command_view.as_object(request.data))
        _write(lambda: layouts.save(request.user, layout, base))
        return _saved(request)

    def delete(self, request: Request) -> Response:
        permissions.require_scope(request, WRITE)
        views.allow_parameters(request, ())
        base = _base(request, required=False)
        _write(lambda: layouts.reset(request.user, base))
        return _saved(request)


class Export(views.View):
    """The layout of the caller as a file."""

    operations = {
        "GET": _operation("export_dashboard_layout", "The caller's layout as a file", "DashboardLayout", READ)
    }

    def get(self, request: Request) -> Response:
        permissions.require_scope(request, READ)
        views.allow_parameters(request, ())
        shown = msgspec.to_builtins(layouts.of(request.user).layout)
        return Response(shown, headers={"Content-Disposition": FILE})


class Import(views.View):
    """Replaces the layout of the caller by an exported one."""

    operations = {
        "POST": _operation(
            "import_dashboard_layout",
            "Replace the caller's layout by an exported one",
            "ImportedDashboardLayout",
            body="DashboardLayout",
            description="The tiles get new ids. Tiles of unknown kinds are kept; those that the caller may not see are "
            "left out and named.",
            parameters=(IF_MATCH,),
            etag=True,
        )
    }

    def post(self, request: Request) -> Response:
        permissions.require_scope(request, WRITE)
        views.allow_parameters(request, ())
        base = _base(request, required=True)
        found = layouts.imported(command_view.as_object(request.data), request.user)
        _write(lambda: layouts.save(request.user, found.layout, base))
        return _saved(request, unknown=list(found.unknown), forbidden=list(found.forbidden))


class Shared(views.View):
    """The copies that the caller shares."""

    operations = {
        "GET": _operation("list_shared_dashboards", "The copies that the caller shares", "SharedDashboards", READ),
        "POST": _operation(
            "share_dashboard",
            "Share a named copy of the caller's layout",
            "SharedDashboard",
            body="ShareDashboard",
            description="Staff who open it see it with their own rights. Later changes of the layout do not change it.",
            errors=(400, 401, 403, 409, 413, 415, 422, 429),
        ),
    }

    def get(self, request: Request) -> Response:
        permissions.require_scope(request, READ)
        views.allow_parameters(request, ())
        return Response({"items": [_copy(row) for row in layouts.shared_by(request.user)]})

    def post(self, request: Request) -> Response:
        permissions.require_scope(request, WRITE)
        views.allow_parameters(request, ())
        asked = api_shapes.checked(shapes.ShareDashboard, command_view.as_object(request.data))
        return Response(_copy(layouts.share(request.user, asked.name, layouts.of(request.user).layout)))


class SharedCopy(views.View):
    """One shared copy."""

    operations = {
        "DELETE": _operation(
            "unshare_dashboard",
            "Remove a shared copy",
            "SharedDashboards",
            parameters=(COPY,),
            errors=(400, 401, 403, 404, 429),
        )
    }

    def delete(self, request: Request, key: str) -> Response:
        permissions.require_scope(request, WRITE)
        views.allow_parameters(request, ())
        try:
            known = layouts.unshare(request.user, uuid.UUID(key))
        except ValueError:
            known = False
        if not known:
            raise Http404
        return Response({"items": [_copy(row) for row in layouts.shared_by(request.user)]})


def _saved(request: Request, **more: Any) -> Response:
    stored = layouts.of(request.user)
    shown = {"version": stored.version, "own": stored.own, "layout": msgspec.to_builtins(stored.layout), **more}
    return Response(shown, headers={"ETag": _etag(stored.version)})


def _etag(version: int) -> str:
    return f'"v{version}"'


def _base(request: Request, *, required: bool) -> int | None:
    """The version that the caller read; None for ``*``. Raises 428 without the header where it is required."""
    header = request.headers.get("If-Match", "").strip()
    if not header and required:
        detail = 'Send If-Match with the ETag of the layout you read, such as "v3".'
        raise problems.Problem(428, "precondition_required", detail)
    if header in {"", "*"}:
        return None
    found = ETAG.fullmatch(header)
    if found is None:
        raise problems.malformed('If-Match is an ETag, such as "v3", or *.', "invalid_header", parameter="If-Match")
    return int(found[1])


def _write(save: Any) -> None:
    try:
        save()
    except layouts.StaleLayout as stale:
        headers = {"ETag": _etag(stale.version)}
        raise problems.Problem(412, stale.code, stale.message, headers=headers) from stale


def _copy(row: SharedLayout) -> dict[str, Any]:
    address = reverse("admin:dashboard_shared", args=[row.pk])
    return {"id": row.pk, "name": row.name, "url": address, "created_at": row.created_at}


urlpatterns = [
    path("dashboard/layouts/", Layout.as_view(), name="api-dashboard-layout"),
    path("dashboard/layouts/export/", Export.as_view(), name="api-dashboard-export"),
    path("dashboard/layouts/import/", Import.as_view(), name="api-dashboard-import"),
    path("dashboard/layouts/share/", Shared.as_view(), name="api-dashboard-shared"),
    path("dashboard/layouts/share/<str:key>/", SharedCopy.as_view(), name="api-dashboard-shared-copy"),
]
