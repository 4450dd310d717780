"""The navigation and the header of every page, read from the declarations of the sections."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.functional import Promise
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy

from backoffice import access, section
from backoffice.section import Kind, NavItem, Text

# The groups of the navigation in display order, with their headings.
GROUPS: Final[dict[str, str | Promise]] = {
    "": "",
    "records": gettext_lazy("Records"),
    "running": gettext_lazy("Operations"),
    "system": gettext_lazy("System"),
}

OVERVIEW: Final = NavItem(
    label=gettext_lazy("Overview"), url_name="admin:index", icon="overview", visible=bool, key="h", order=-1
)


def of_kind(kind: Kind, *, key: str = "", group: str = "records") -> NavItem:
    """Returns the entry of a kind's list, visible to people who may view the kind."""
    return NavItem(
        label=capfirst(kind.model._meta.verbose_name_plural or ""),
        url_name=kind.url("changelist"),
        icon=kind.icon,
        group=group,
        visible=partial(access.sees, kind.category),
        key=key,
    )


def of_pages(
    group: str, visible: Callable[[Any], bool], *entries: tuple[Text, str, str, str], order: int = 0
) -> tuple[NavItem, ...]:
    """Returns entries of one group with the same visibility, each given as (label, URL name, icon, key)."""
    return tuple(
        NavItem(label=label, url_name=url_name, icon=icon, group=group, visible=visible, key=key, order=order)
        for label, url_name, icon, key in entries
    )


def groups(request: HttpRequest) -> list[dict[str, Any]]:
    """Returns the navigation in groups, without entries that have no URL or that this person may not see."""
    declared = [OVERVIEW, *(item for one in section.sections() for item in one.navigation)]
    found: list[dict[str, Any]] = []
    for name, label in GROUPS.items():
        members = sorted((item for item in declared if item.group == name), key=lambda item: item.order)
        if entries := [entry for item in members if (entry := _entry(item, request))]:
            found.append({"label": label, "entries": entries})
    return found


def header_items(request: HttpRequest) -> list[dict[str, Any]]:
    """Returns template and context of each header item; none for people without access to the backoffice."""
    if access.role_of(request.user) is None:
        return []
    return [
        {"template": item.template, "context": item.context(request)}
        for one in section.sections()
        for item in one.header
        if item.visible(request.user)
    ]


def assets() -> dict[str, list[str]]:
    """Returns the style sheets and JavaScript modules that sections add to every page."""
    found = section.sections()
    return {
        "added_styles": [name for one in found for name in one.styles],
        "added_modules": [name for one in found for name in one.modules],
    }


def _entry(item: NavItem, request: HttpRequest) -> dict[str, Any] | None:
    try:
        url = reverse(item.url_name)
    except NoReverseMatch:
        return None
    if not request.user.is_authenticated or not item.visible(request.user):
        return None
    here = request.path == url if item is OVERVIEW else request.path.startswith(url)
    return {"item": item, "url": url, "here": here, "count": item.count(request.user) if item.count else None}
