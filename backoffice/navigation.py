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

# The groups of the navigation in display order, and what is above each.
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
    """The entry of a kind's list, for those who may view it."""
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
    """Entries of one group for the same people, each as (label, name of the address, icon, key)."""
    return tuple(
        NavItem(label=label, url_name=url_name, icon=icon, group=group, visible=visible, key=key, order=order)
        for label, url_name, icon, key in entries
    )


def groups(request: HttpRequest) -> list[dict[str, Any]]:
    """The navigation for this person, in groups; entries without an address or without the right are left out."""
    declared = [OVERVIEW, *(item for one in section.sections() for item in one.navigation)]
    found: list[dict[str, Any]] = []
    for name, label in GROUPS.items():
        members = sorted((item for item in declared if item.group == name), key=lambda item: item.order)
        if entries := [entry for item in members if (entry := _entry(item, request))]:
            found.append({"label": label, "entries": entries})
    return found


def header_items(request: HttpRequest) -> list[dict[str, Any]]:
    """What sections show in the header, as template and context; nothing for those who may not come in."""
    if access.role_of(request.user) is None:
        return []
    return [
        {"template": item.template, "context": item.context(request)}
        for one in section.sections()
        for item in one.header
        if item.visible(request.user)
    ]


def assets() -> dict[str, list[str]]:
    """The style sheets and JavaScript modules that sections add to every page."""
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
