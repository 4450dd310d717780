"""Lists: a page by cursor, filters and search in the address, and single rows again when they change."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _

from backoffice import access, listing, models
from backoffice.web import actors, log_position
from backoffice.web.resources import Column, Resource

if TYPE_CHECKING:
    from backoffice.web.record_admin import RecordAdmin

MAX_ROWS: Final = 200  # rows asked for at once by a live page
PAGE_PARAMETERS: Final = frozenset({"q", "sort", "cursor"})


@dataclass(frozen=True, slots=True)
class Head:
    """A column's head: where a click leads, and how the list is sorted by it now ('', 'up', 'down')."""

    column: Column
    link: str | None
    sorted: str


@dataclass(frozen=True, slots=True)
class Menu:
    """A filter's menu."""

    name: str
    label: Any
    value: str
    options: Sequence[tuple[str, Any]]


def index(room: RecordAdmin, request: HttpRequest) -> HttpResponse:
    """The list. What it cannot be asked is said and left out."""
    room.demand(request)
    resource, stamp = room.resource, log_position.now()
    asked = _asked(request)
    try:
        page = listing.page(resource.name, **asked, hidden=access.hidden_fields(request.user, resource.category))
    except listing.PageError as error:
        messages.warning(request, error.message)
        query = request.GET.copy()
        query.pop(error.parameter, None)
        return HttpResponseRedirect(f"?{query.urlencode()}" if error.parameter in request.GET else request.path)
    context = {
        **room.admin_site.each_context(request),
        "title": room.model._meta.verbose_name_plural,
        "resource": resource,
        "room": room,
        "page": page,
        "rows": decorated(resource, page.items, request.user),
        "columns": visible_columns(resource, request.user),
        "heads": _heads(resource, request, page.sort),
        "menus": _menus(resource, asked["filters"]),
        "narrowed": _narrowed(asked["filters"], request.user),
        "q": asked["search"],
        "is_asked": bool(asked["search"] or asked["filters"]),
        "is_first": not asked["cursor"],
        "stamp": stamp,
        "can_add": room.has_add_permission(request),
        "opts": room.model._meta,
    }
    return TemplateResponse(request, "admin/backoffice/list.html", context)


def rows(room: RecordAdmin, request: HttpRequest) -> HttpResponse:
    """Rows by id, as the list draws them: ``?ids=…`` those on screen, ``?new=…`` those that would be, with the list's
    own filters. A live page swaps the first in place and counts the second (header ``X-New``)."""
    room.demand(request)
    resource, stamp = room.resource, log_position.now()
    try:
        shown, new = _keys(resource, request.GET.get("ids", "")), _keys(resource, request.GET.get("new", ""))
        fresh = _matching_new(resource, request, new) if new else []
    except (ValueError, listing.PageError):
        return HttpResponseBadRequest()
    items = _with_related(resource).filter(pk__in=shown) if shown else []
    context = {
        "resource": resource,
        "rows": decorated(resource, items, request.user),
        "columns": visible_columns(resource, request.user),
        "request": request,
    }
    response = TemplateResponse(request, "admin/backoffice/list_rows.html", context)
    response["X-New"] = " ".join(fresh)
    response["X-Position"] = str(stamp.position)
    response["Cache-Control"] = "no-store"
    return response


def _asked(request: HttpRequest) -> dict[str, Any]:
    """The question in the address: what is no part of a page's own is a filter; empty ones are left out."""
    filters = {name: value for name, value in request.GET.items() if name not in PAGE_PARAMETERS and value}
    return {
        "search": request.GET.get("q", "")[:200],
        "sort": request.GET.get("sort") or None,
        "cursor": request.GET.get("cursor") or None,
        "filters": filters,
    }


def _keys(resource: Resource, text: str) -> list[Any]:
    """The ids in a parameter. Raises `ValueError` for one that is none, and for more than `MAX_ROWS`."""
    keys = [key for key in text.split(",", MAX_ROWS + 1) if key]
    if len(keys) > MAX_ROWS:
        raise ValueError(f"at most {MAX_ROWS} ids")
    is_uuid = resource.model._meta.pk.get_internal_type() == "UUIDField"
    return [uuid.UUID(key) for key in keys] if is_uuid else list(keys)


def _matching_new(resource: Resource, request: HttpRequest, keys: Sequence[Any]) -> list[str]:
    asked = {name: value for name, value in _asked(request)["filters"].items() if name not in {"ids", "new"}}
    found = listing.matching(
        resource.name,
        filters=asked,
        search=_asked(request)["search"],
        hidden=access.hidden_fields(request.user, resource.category),
    )
    return [str(key) for key in found.filter(pk__in=keys).values_list("pk", flat=True)]


def _with_related(resource: Resource) -> Any:
    related = listing.SPECS[resource.name].related
    rows = resource.model._default_manager.order_by()
    return rows.select_related(*related) if related else rows


def visible_columns(resource: Resource, staff: Any) -> list[Column]:
    """Columns for this person; a column stays when only its sort is about something hidden."""
    hidden = access.hidden_fields(staff, resource.category)
    return [column for column in resource.columns if column.field not in hidden or column.sort]


def decorated(resource: Resource, items: Iterable[Any], staff: Any) -> list[dict[str, Any]]:
    """Rows with what this person may see of them."""
    hidden = access.hidden_fields(staff, resource.category)
    listed = list(items)
    return [
        {
            "item": item,
            "hidden": hidden,
            "owner": actors.user_label(related(item, "user"), staff) if resource.category == "form" else "",
            "form": related(item, "form") if resource.category == "submission" else None,
            "name": actors.user_label(item, staff) if resource.category == "user" else str(item),
            "url": reverse(resource.url("change"), args=[item.pk]),
        }
        for item in listed
    ]


def related(item: Any, name: str) -> Any:
    """A related row, None when it is gone: read tables hold no foreign keys."""
    try:
        return getattr(item, name)
    except (models.User.DoesNotExist, models.Form.DoesNotExist):
        return None


def _heads(resource: Resource, request: HttpRequest, sort: str) -> list[Head]:
    hidden = access.hidden_fields(request.user, resource.category)
    heads = []
    for column in visible_columns(resource, request.user):
        name = (column.sort or "").removeprefix("-")
        if not name or name in hidden:
            heads.append(Head(column, None, ""))
            continue
        now = {name: "up", f"-{name}": "down"}.get(sort, "")
        wanted = {"up": f"-{name}", "down": name}.get(now, column.sort or name)
        query = request.GET.copy()
        query.pop("cursor", None)
        query["sort"] = wanted
        heads.append(Head(column, f"?{query.urlencode()}", now))
    return heads


def _menus(resource: Resource, filters: Mapping[str, str]) -> list[Menu]:
    return [Menu(c.name, c.label, filters.get(c.name, ""), c.values) for c in resource.choices]


def _narrowed(filters: Mapping[str, str], staff: Any) -> list[dict[str, str]]:
    """Filters that came by a link rather than a menu, as chips that can be taken off."""
    chips = []
    if key := filters.get("form"):
        form = models.Form.objects.filter(pk=key).first() if _is_uuid(key) else None
        chips.append({"name": "form", "value": key, "label": _("Form: %(title)s") % {"title": form or key}})
    if key := filters.get("user"):
        owner = models.User.objects.filter(pk=key).first() if _is_uuid(key) else None
        label = actors.user_label(owner, staff) if owner else key
        chips.append({"name": "user", "value": key, "label": _("Owner: %(name)s") % {"name": label}})
    for name, words in (("created_after", _("From %(day)s")), ("created_before", _("Before %(day)s"))):
        if value := filters.get(name):
            chips.append({"name": name, "value": value, "label": words % {"day": value}})
    return chips


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
