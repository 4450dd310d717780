"""Small things that templates draw: icons, initials, relative times."""

from __future__ import annotations

import json
import zlib
from datetime import datetime
from typing import Any, Final

from django import template
from django.template.defaultfilters import filesizeformat
from django.utils import timezone
from django.utils.formats import date_format, number_format
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from events.types import ERASED

register = template.Library()

# ruff: noqa: E501
# name -> paths of a 24x24 icon drawn with strokes
ICONS: Final = {
    "overview": '<path d="M4 13h6V4H4zM14 20h6V11h-6zM4 20h6v-3H4zM14 7h6V4h-6z"/>',
    "users": '<circle cx="9" cy="8" r="3.5"/><path d="M2.5 20c.6-3.6 3.2-5.5 6.5-5.5s5.9 1.9 6.5 5.5M16 4.8a3.5 3.5 0 0 1 0 6.4M18 15c1.9.8 3.1 2.5 3.5 5"/>',
    "forms": '<rect x="4" y="3" width="16" height="18" rx="2.5"/><path d="M8 8h8M8 12h8M8 16h4"/>',
    "submissions": '<path d="M4 13.5 6.8 5.200A2 2 0 0 1 8.7 4h6.600a2 2 0 0 1 1.9 1.200L20 13.500V18a2 2 0 0 1-2 2H6a2 2 0 0 1-2-2z"/><path d="M4 13.500h4.500l1.2 2.500h4.600l1.2-2.500H20"/>',
    "settings": '<path d="M4 7h9M17 7h3M4 17h3M11 17h9"/><circle cx="15" cy="7" r="2"/><circle cx="9" cy="17" r="2"/>',
    "events": '<path d="M3 12h4l2.5-7 5 14 2.5-7h4"/>',
    "staff": '<path d="M12 3 5 6v5.500c0 4.3 2.9 7.6 7 9.5 4.1-1.9 7-5.2 7-9.500V6z"/><path d="m9 12 2.2 2.200L15.2 10"/>',
    "search": '<circle cx="11" cy="11" r="6.5"/><path d="m20 20-4.3-4.3"/>',
    "plus": '<path d="M12 5v14M5 12h14"/>',
    "edit": '<path d="M4 20h4L19 9l-4-4L4 16z"/>',
    "trash": '<path d="M4 7h16M9 7V4h6v3M6.5 7l1 13h9l1-13"/>',
    "erase": '<path d="M8.500 19 4 14.500l10-10 5.500 5.500-9 9zM9 9.500l5.500 5.500M13.500 19H20"/>',
    "restore": '<path d="M4 9h10a5.5 5.5 0 0 1 0 11H8"/><path d="M8 5 4 9l4 4"/>',
    "history": '<circle cx="12" cy="12" r="8.5"/><path d="M12 7v5l3.5 2"/>',
    "left": '<path d="m14.5 6-6 6 6 6"/>',
    "right": '<path d="m9.5 6 6 6-6 6"/>',
    "up": '<path d="m6 14.5 6-6 6 6"/>',
    "down": '<path d="m6 9.5 6 6 6-6"/>',
    "close": '<path d="M6 6l12 12M18 6 6 18"/>',
    "check": '<path d="m5 12.5 4.5 4.500L19 7.5"/>',
    "alert": '<path d="M12 4 2.8 20h18.400z"/><path d="M12 10v4.500M12 17.200v.1"/>',
    "info": '<circle cx="12" cy="12" r="8.5"/><path d="M12 11v5M12 8v.1"/>',
    "merge": '<circle cx="6" cy="5" r="2"/><circle cx="6" cy="19" r="2"/><circle cx="18" cy="12" r="2"/><path d="M6 7v10M6 8c.5 3 4 4 10 4"/>',
    "keyboard": '<rect x="2.5" y="6" width="19" height="12" rx="2"/><path d="M6 10h.1M10 10h.1M14 10h.1M18 10h.1M7 14h10"/>',
    "logout": '<path d="M14 4h4a2 2 0 0 1 2 2v12a2 2 0 0 1-2 2h-4M10 8l-4 4 4 4M6 12h9"/>',
    "key": '<circle cx="8" cy="15" r="4"/><path d="m11 12 8-8M16 7l2.5 2.5"/>',
    "external": '<path d="M14 4h6v6M20 4l-9 9M18 14v5H5V6h5"/>',
    "grip": '<path d="M9 6h.1M15 6h.1M9 12h.1M15 12h.1M9 18h.1M15 18h.1"/>',
    "compare": '<path d="M12 3v18M4 8h4M4 12h4M4 16h4M16 8h4M16 12h4M16 16h4"/>',
    "download": '<path d="M12 4v11M7.5 10.5 12 15l4.500-4.500M5 20h14"/>',
    "globe": '<circle cx="12" cy="12" r="8.5"/><path d="M3.5 12h17M12 3.500c5 5.5 5 11.5 0 17-5-5.5-5-11.5 0-17z"/>',
    "flow": '<path d="M4 7h9a4 4 0 0 1 0 8H8M4 15h.1M8 11.500 4.500 15 8 18.500M17 7h3"/>',
    "head": '<path d="M3 17h18M3 17V9h5v8M8 17v-5h5v5M17 4v9M14.500 10.500 17 13l2.500-2.500"/>',
    "rebuild": '<path d="M19.500 9A8 8 0 0 0 5 8.500M4.500 4v4.500H9M4.500 15A8 8 0 0 0 19 15.500M19.500 20v-4.500H15"/>',
    "pause": '<path d="M9 5.500v13M15 5.500v13"/>',
    "play": '<path d="M8 5.500v13l10-6.500z"/>',
    "skip": '<path d="M5 5.500v13l9-6.500zM18 5.500v13"/>',
    "seal": '<path d="M12 3 5 6v5.500c0 4.3 2.9 7.6 7 9.5 4.1-1.9 7-5.2 7-9.500V6z"/><path d="M9 11h6v4.500H9zM10 11V9.500a2 2 0 0 1 4 0V11"/>',
    "live": '<circle cx="12" cy="12" r="2"/><path d="M8 8a5.700 5.700 0 0 0 0 8M16 8a5.700 5.700 0 0 1 0 8M5 5a9.900 9.900 0 0 0 0 14M19 5a9.900 9.900 0 0 1 0 14"/>',
    "more": '<path d="M5 12h.1M12 12h.1M19 12h.1"/>',
}


@register.simple_tag
def icon(name: str) -> SafeString:
    """An icon that takes the text's colour and size; hidden from screen readers."""
    paths = mark_safe(ICONS[name])  # noqa: S308 - our own constants
    return format_html('<svg class="icon icon-{}" viewBox="0 0 24 24" aria-hidden="true">{}</svg>', name, paths)


@register.filter
def initials(name: Any) -> str:
    """Two letters for a name; one where there is one word."""
    words = str(name or "?").replace("@", " ").replace(".", " ").split()
    return "".join(word[0] for word in (words[:1] + words[1:][-1:])).upper() or "?"


@register.filter
def hue(name: Any) -> int:
    """One of eight colours, always the same for the same name."""
    return zlib.crc32(str(name).encode()) % 8


@register.filter
def said(reason: str) -> str:
    """A reason that somebody gave, as a quotation; one that went with an erasure as that."""
    return _("erased") if reason == ERASED else f"“{reason}”"


UNREADABLE: Final = {
    "not_json": gettext_lazy("its data is not JSON that this release can read"),
    "unknown_version": gettext_lazy("another release wrote its data, and this one cannot convert it"),
    "does_not_fit": gettext_lazy("its data does not fit its type"),
    "unknown_type": gettext_lazy("this release does not know its type"),
    "tampered": gettext_lazy("its personal data was altered"),
    "no_key": gettext_lazy("its personal data cannot be decrypted"),
    "no_instant": gettext_lazy("the time it was recorded at cannot be read"),
}


@register.filter
def unreadable(why: str) -> str:
    """Why an event cannot be read, by its code."""
    return _("Unreadable: %(why)s.") % {"why": UNREADABLE.get(why, why)}


@register.filter
def ago(moment: datetime | None) -> SafeString:
    """An instant as “3 min ago” with the exact time behind it; the browser keeps it fresh."""
    if moment is None:
        return format_html('<span class="quiet">{}</span>', "–")
    exact = date_format(timezone.localtime(moment), "DATETIME_FORMAT")
    return format_html(
        '<time datetime="{}" title="{}" data-ago>{}</time>', moment.isoformat(), exact, _distance(moment)
    )


def _distance(moment: datetime) -> str:
    seconds = int((timezone.now() - moment).total_seconds())
    if seconds < 45:
        return _("just now")
    if seconds < 45 * 60:
        minutes = max(1, round(seconds / 60))
        return ngettext("%(n)d min ago", "%(n)d min ago", minutes) % {"n": minutes}
    if seconds < 22 * 3600:
        hours = max(1, round(seconds / 3600))
        return ngettext("%(n)d h ago", "%(n)d h ago", hours) % {"n": hours}
    if seconds < 26 * 86400:
        days = max(1, round(seconds / 86400))
        return ngettext("%(n)d day ago", "%(n)d days ago", days) % {"n": days}
    return date_format(timezone.localtime(moment), "DATE_FORMAT")


@register.filter
def seconds(value: float | None) -> str:
    """A duration in seconds as people say it: 48 s, 3 min 05 s, 2 h 10 min."""
    if value is None:
        return "–"
    whole = round(value)
    if whole < 60:
        return _("%(s)d s") % {"s": whole}
    if whole < 3600:
        return _("%(m)d min %(s)02d s") % {"m": whole // 60, "s": whole % 60}
    return _("%(h)d h %(m)02d min") % {"h": whole // 3600, "m": whole % 3600 // 60}


@register.filter
def size(value: int | None) -> str:
    """A number of bytes as people say it: 8.2 MB."""
    return filesizeformat(value or 0)


@register.filter
def unlocalized(value: float) -> str:
    """A number for attributes, which know no decimal comma and no spaces."""
    return str(value)


@register.filter
def rate(value: float | None) -> str:
    """So many a second: 1,200, or 3.2, or 0."""
    if value is None:
        return "–"
    return str(number_format(round(value, 1) if 0 < value < 10 else round(value), force_grouping=True))


@register.filter
def milliseconds(value: float | None) -> str:
    """A short time in seconds as people say it: 8 ms, 1.2 s."""
    if value is None:
        return "–"
    if value < 1:
        return _("%(n)d ms") % {"n": round(value * 1000)}
    return _("%(n)s s") % {"n": number_format(round(value, 1))}


@register.filter
def percent(value: float) -> str:
    """A share in hundredths: 12%."""
    return _("%(n)d%%") % {"n": round(value * 100)}


QUESTION_TYPES: Final = {
    "text": gettext_lazy("Short text"),
    "long_text": gettext_lazy("Long text"),
    "email": gettext_lazy("Email address"),
    "phone": gettext_lazy("Phone number"),
    "url": gettext_lazy("Web address"),
    "integer": gettext_lazy("Whole number"),
    "number": gettext_lazy("Number"),
    "date": gettext_lazy("Date"),
    "datetime": gettext_lazy("Date and time"),
    "boolean": gettext_lazy("Yes or no"),
    "single_choice": gettext_lazy("One choice"),
    "multiple_choice": gettext_lazy("Several choices"),
    "ranking": gettext_lazy("Ranking"),
    "rating": gettext_lazy("Rating"),
    "matrix": gettext_lazy("Matrix"),
}


@register.filter
def question_type(name: Any) -> str:
    """A type of question in words; one that nobody knows stays as it is."""
    return str(QUESTION_TYPES.get(name, name))


@register.filter
def get(mapping: Any, key: Any) -> Any:
    """A value out of a dictionary, by a key that is a variable."""
    return mapping.get(key) if mapping else None


@register.filter
def as_json(value: Any) -> str:
    """A value as JSON laid out for people."""
    return json.dumps(value, ensure_ascii=False, indent=2)


@register.simple_tag(takes_context=True)
def querystring_without(context: dict[str, Any], *names: str) -> str:
    """The query of this page without some of its parameters, back on the first page."""
    query = context["request"].GET.copy()
    for name in (*names, "cursor"):
        query.pop(name, None)
    return str(query.urlencode())


@register.simple_tag
def cell(item: Any, column: Any) -> Any:
    """What a column shows of a row, for lists without a template of their own."""
    if choice := getattr(item, f"get_{column.value}_display", None):
        return choice()
    value = getattr(item, column.value, None) if column.value else None
    return ago(value) if value is None or isinstance(value, datetime) else value
