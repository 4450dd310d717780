"""List pages: filters, search and cursor in the query string, and single rows for updating an open page."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.contrib import messages
from django.core.exceptions import ObjectDoesNotExist
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _

from backoffice import access, extensions, listing, section, standby
from backoffice.section import Column, Kind
from backoffice.web import log_position
from backoffice.web.kind_admin import KindAdmin

MAX_ROWS: Final = 200  # rows that an open page may request at once
PAGE_PARAMETERS: Final = frozenset({"q", "sort", "cursor"})


@dataclass(frozen=True, slots=True)
class Head:
    """A column's head: the link of a click, and the present sort direction ('', 'up', 'down')."""

    column: Column
    link: str | None
    sorted: str


@dataclass(frozen=True, slots=True)
class Menu:
    """A menu that filters the list."""

    name: str
    label: Any
    value: str
    options: Sequence[tuple[str, Any]]


class ListAdmin(KindAdmin):
    """The list page of a kind of record, and single rows for updating an open page."""

    @standby.reads
    def list_page(self, request: HttpRequest) -> HttpResponse:
        """Renders the list. An invalid parameter is removed by a redirect, with a warning."""
        self.demand(request)
        kind, stamp = self.kind, log_position.now()
        asked = _asked(request)
        try:
            page = listing.page(kind.spec, **asked, hidden=access.hidden_fields(request.user, kind.category))
        except listing.PageError as error:
            messages.warning(request, error.message)
            query = request.GET.copy()
            query.pop(error.parameter, None)
            return HttpResponseRedirect(f"?{query.urlencode()}" if error.parameter in request.GET else request.path)
        context = {
            **self.page_context(request),
            "title": self.model._meta.verbose_name_plural,
            "page": page,
            "rows": listed(kind, page.items, request.user),
            "columns": visible_columns(kind, request.user),
            "heads": self._heads(request, page.sort),
            "menus": self._menus(asked["filters"]),
            "narrowed": self._narrowed(asked["filters"], request.user),
            "q": asked["search"],
            "is_asked": bool(asked["search"] or asked["filters"]),
            "is_first": not asked["cursor"],
            "stamp": stamp,
            "can_add": self.has_add_permission(request),
        }
        return TemplateResponse(request, "admin/backoffice/list.html", context)

    @standby.reads
    def rows(self, request: HttpRequest) -> HttpResponse:
        """Renders rows by id, for updating an open page.

        ``?ids=…`` are rows on the screen, which the page replaces. ``?new=…`` are new records: the header ``X-New``
        returns those that match the list's filters, and the page counts them.
        """
        self.demand(request)
        kind, stamp = self.kind, log_position.now()
        try:
            shown, new = _keys(kind, request.GET.get("ids", "")), _keys(kind, request.GET.get("new", ""))
            fresh = self._matching_new(request, new) if new else []
        except (ValueError, listing.PageError):
            return HttpResponseBadRequest()
        items = self.model._default_manager.order_by().select_related(*kind.related).filter(pk__in=shown)
        context = {
            "resource": kind,
            "rows": listed(kind, list(items) if shown else [], request.user),
            "columns": visible_columns(kind, request.user),
            "request": request,
        }
        response = TemplateResponse(request, "admin/backoffice/list_rows.html", context)
        response["X-New"] = " ".join(fresh)
        response["X-Position"] = str(stamp.position)
        response["Cache-Control"] = "no-store"
        return response

    def _matching_new(self, request: HttpRequest, keys: Sequence[Any]) -> list[str]:
        asked = {name: value for name, value in _asked(request)["filters"].items() if name not in {"ids", "new"}}
        found = listing.matching(
            self.kind.spec,
            filters=asked,
            search=_asked(request)["search"],
            hidden=access.hidden_fields(request.user, self.kind.category),
        )
        return [str(key) for key in found.filter(pk__in=keys).values_list("pk", flat=True)]

    def _heads(self, request: HttpRequest, sort: str) -> list[Head]:
        hidden = access.hidden_fields(request.user, self.kind.category)
        heads = []
        for column in [*visible_columns(self.kind, request.user), *extensions.columns(self.kind, request.user)]:
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

    def _menus(self, filters: Mapping[str, str]) -> list[Menu]:
        return [Menu(c.name, c.label, filters.get(c.name, ""), c.values) for c in self.kind.choices]

    def _narrowed(self, filters: Mapping[str, str], staff: Any) -> list[dict[str, str]]:
        """Returns the filters that have no menu, set by a link, as chips that people can remove."""
        chips = []
        for name, narrowing in self.kind.narrowings.items():
            if key := filters.get(name):
                about = section.kind(narrowing.category)
                row = about.model._default_manager.filter(pk=key).first() if _is_uuid(key) else None
                title = about.title(row, staff) if row else key
                chips.append(
                    {"name": name, "value": key, "label": str(narrowing.label) % {"name": title, "title": title}}
                )
        for name, words in (("created_after", _("From %(day)s")), ("created_before", _("Before %(day)s"))):
            if value := filters.get(name):
                chips.append({"name": name, "value": value, "label": words % {"day": value}})
        return chips


def _asked(request: HttpRequest) -> dict[str, Any]:
    """Parses the query string. Each parameter except search, sort and cursor is a filter; empty ones are ignored."""
    filters = {name: value for name, value in request.GET.items() if name not in PAGE_PARAMETERS and value}
    return {
        "search": request.GET.get("q", "")[:200],
        "sort": request.GET.get("sort") or None,
        "cursor": request.GET.get("cursor") or None,
        "filters": filters,
    }


def _keys(kind: Kind, text: str) -> list[Any]:
    """Parses a list of ids. Raises `ValueError` for an invalid id and for more than `MAX_ROWS`."""
    keys = [key for key in text.split(",", MAX_ROWS + 1) if key]
    if len(keys) > MAX_ROWS:
        raise ValueError(f"at most {MAX_ROWS} ids")
    return [uuid.UUID(key) for key in keys] if kind.is_uuid_keyed else list(keys)


def visible_columns(kind: Kind, staff: Any) -> list[Column]:
    """Returns the kind's own columns, without those of hidden fields; columns that can be sorted stay."""
    hidden = access.hidden_fields(staff, kind.category)
    return [column for column in kind.columns if column.field not in hidden or column.sort]


def decorated(kind: Kind, items: Iterable[Any], staff: Any) -> list[dict[str, Any]]:
    """Returns the context of each row's template, for this person."""
    hidden = access.hidden_fields(staff, kind.category)
    return [
        {
            "item": item,
            "hidden": hidden,
            "name": kind.title(item, staff),
            "url": reverse(kind.url("change"), args=[item.pk]),
            **kind.row_context(item, staff),
        }
        for item in items
    ]


def listed(kind: Kind, items: Sequence[Any], staff: Any) -> list[dict[str, Any]]:
    """Returns the context of each row's template, with the cells (column, value) of extensions."""
    columns, values = extensions.columns(kind, staff), extensions.cells(kind, items, staff)
    rows = decorated(kind, items, staff)
    for row in rows:
        found = values.get(row["item"].pk, {})
        row["added_cells"] = [(column, _shown(found.get(column.value), column)) for column in columns]
    return rows


def _shown(value: Any, column: Column) -> Any:
    return (column.missing or None) if value is None else value


def related(item: Any, name: str) -> Any:
    """Returns a related row; None if it does not exist, because read tables have no foreign keys."""
    try:
        return getattr(item, name)
    except ObjectDoesNotExist:
        return None


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
