"""The pages of the dashboard: the index of the site, single tiles for an open page, and shared copies."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, Final

from django.contrib.admin import AdminSite
from django.core.exceptions import BadRequest
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from backoffice import access
from backoffice.web import log_position
from metrics.dashboard import layouts, tiles, widgets
from metrics.dashboard.asked import RANGES, Span, span_of, zone
from metrics.dashboard.layouts import Layout
from metrics.monitoring import metric_types
from metrics.monitoring.history import ranges, tables

AT_ONCE: Final = 10  # tiles of one request
KIOSK: Final = "kiosk"


def index(site: AdminSite, request: HttpRequest) -> HttpResponse:
    """The dashboard of the person who is signed in (`Section.index`)."""
    stored = layouts.of(request.user)
    page = {
        "title": _("Overview"),
        "version": stored.version,
        "own": stored.own,
        "address": reverse("admin:index"),
        "tiles_url": reverse("admin:dashboard_tiles"),
        "editable": True,
    }
    return _render(site, request, stored.layout, page)


class DashboardPages:
    """All pages of the dashboard except the index."""

    def __init__(self, site: AdminSite) -> None:
        self.site = site

    def tiles(self, request: HttpRequest) -> HttpResponse:
        """Some tiles of the person's own layout, for a page that is open."""
        return _fragment(request, layouts.of(request.user).layout)

    def preview(self, request: HttpRequest) -> HttpResponse:
        """One tile that is not in the saved layout, as it would be drawn: while it is being added."""
        tile = {"id": request.GET.get("id", ""), "kind": request.GET.get("kind", "")}
        size = {name: _whole(request, name) for name in ("w", "h")}
        options = {name: request.GET[name] for name in ("metric", "view", "target", "text") if name in request.GET}
        try:
            layout = layouts.checked({"tiles": [tile | size | {"options": options}]})
        except layouts.InvalidLayout as error:
            raise BadRequest(error.message) from error
        return _fragment(request, layout, all_tiles=True)

    def shared(self, request: HttpRequest, key: uuid.UUID) -> HttpResponse:
        """A shared copy. It can be read only, with the rights of the reader."""
        row, layout = _shared(key)
        page = {
            "title": row.name,
            "shared_by": row.owner.get_full_name() or row.owner.get_username(),
            "address": reverse("admin:dashboard_shared", args=[key]),
            "tiles_url": reverse("admin:dashboard_shared_tiles", args=[key]),
            "editable": False,
        }
        return _render(self.site, request, layout, page)

    def shared_tiles(self, request: HttpRequest, key: uuid.UUID) -> HttpResponse:
        return _fragment(request, _shared(key)[1])


def urls(site: AdminSite) -> Sequence[URLPattern]:
    pages = DashboardPages(site)
    wrap = site.admin_view
    return [
        path("dashboard/tiles/", wrap(pages.tiles), name="dashboard_tiles"),
        path("dashboard/preview/", wrap(pages.preview), name="dashboard_preview"),
        path("dashboard/shared/<uuid:key>/", wrap(pages.shared), name="dashboard_shared"),
        path("dashboard/shared/<uuid:key>/tiles/", wrap(pages.shared_tiles), name="dashboard_shared_tiles"),
    ]


def _shared(key: uuid.UUID) -> tuple[Any, Layout]:
    found = layouts.find_shared(key)
    if found is None:
        raise Http404
    return found


def _whole(request: HttpRequest, name: str) -> int:
    text = request.GET.get(name, "1")
    return int(text) if text.isdecimal() and len(text) < 3 else 0


def _span(request: HttpRequest) -> Span:
    try:
        return span_of(request.GET)
    except ranges.BadRange as error:
        raise BadRequest(str(error)) from error


# -- drawing ----------------------------------------------------------------------------------------------------------


def _render(site: AdminSite, request: HttpRequest, layout: Layout, page: dict[str, Any]) -> HttpResponse:
    stamp, span = log_position.now(), _span(request)
    filled = tiles.fill_all(layout.tiles, request.user, span)
    kiosk = request.GET.get(KIOSK) == "1"
    context = {
        **site.each_context(request),
        **page,
        "stamp": stamp,
        "span": span,
        "ranges": [{"name": name, "label": label, "chosen": name == span.name} for name, label in RANGES.items()],
        "tiles": filled,
        "kiosk": kiosk,
        "zone": zone().key,
        "as_of": timezone.localtime(),
        "present_slot": tables.present_slot(),
        "layout": {"schema": layout.schema, "tiles": [_plain(tile) for tile in layout.tiles]},
        "catalogue": _catalogue(request.user) if page["editable"] else None,
    }
    return TemplateResponse(request, "admin/dashboard/index.html", context)


def _fragment(request: HttpRequest, layout: Layout, *, all_tiles: bool = False) -> HttpResponse:
    """The tiles named by `ids`, in the order of the layout."""
    wanted = request.GET.get("ids", "").split(",")
    if len(wanted) > AT_ONCE:
        raise BadRequest(f"At most {AT_ONCE} tiles at once.")
    span = _span(request)
    chosen = [tile for tile in layout.tiles if all_tiles or tile.id in wanted]
    context = {"tiles": tiles.fill_all(chosen, request.user, span), "span": span}
    response = TemplateResponse(request, "admin/dashboard/tiles.html", context)
    response["Cache-Control"] = "no-store"
    return response


def _plain(tile: layouts.Tile) -> dict[str, Any]:
    return {name: getattr(tile, name) for name in tile.__struct_fields__}


def _catalogue(staff: Any) -> dict[str, Any]:
    """The widgets and metrics that this person may add, for the dialog of the arrange mode."""
    kinds = [
        {"kind": one.kind, "label": str(one.label), "w": one.w, "h": one.h}
        for one in widgets.WIDGETS.values()
        if widgets.may_see(staff, one.kind, {})
    ]
    metrics = [
        {"name": one.name, "label": str(one.label)}
        for one in metric_types.METRICS.values()
        if one.kind != "retired" and access.may(staff, "view", one.right)
    ]
    return {"widgets": kinds, "metrics": metrics}
