"""Template tags and filters for display: icons, initials, relative times, units."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

from django import template
from django.template.defaultfilters import filesizeformat
from django.templatetags.static import static
from django.utils import timezone
from django.utils.formats import date_format, number_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from events.types import ERASED

register = template.Library()


@register.simple_tag
def icon(name: str) -> SafeString:
    """Renders an icon of the sprite in the colour and size of the text, hidden from screen readers."""
    sprite = static("backoffice/icons.svg")
    return format_html('<svg class="icon icon-{0}" aria-hidden="true"><use href="{1}#{0}"></use></svg>', name, sprite)


_DIFF_TAGS: Final = {"gone": "<del>{}</del>", "came": "<ins>{}</ins>"}


@register.simple_tag
def diff_words(words: Iterable[tuple[str, str]], without: str = "") -> SafeString:
    """Renders the words of a text diff, with removed and added ones marked.

    words    (kind, text): kind is gone, came or same
    without  the kind to leave out
    There is no whitespace between the tags, because it would be shown.
    """
    shown = (format_html(_DIFF_TAGS.get(kind, "{}"), text) for kind, text in words if kind != without)
    return format_html_join("", "{}", ((part,) for part in shown))


@register.filter
def initials(name: Any) -> str:
    """Returns two letters for a name; one if it has one word."""
    words = str(name or "?").replace("@", " ").replace(".", " ").split()
    return "".join(word[0] for word in (words[:1] + words[1:][-1:])).upper() or "?"


@register.filter
def hue(name: Any) -> int:
    """Returns one of eight colours, always the same for the same name."""
    return zlib.crc32(str(name).encode()) % 8


@register.filter
def quoted(reason: str) -> str:
    """Renders a reason as a quotation; an erased reason as “erased”."""
    return _("erased") if reason == ERASED else _("“%(text)s”") % {"text": reason}


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
    """Returns the message for an unreadable event, by its error code."""
    return _("Unreadable: %(why)s.") % {"why": UNREADABLE.get(why, why)}


@register.filter
def ago(moment: datetime | None) -> SafeString:
    """Renders a time as “3 min ago” with the exact time as its title; a script keeps it current."""
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
    """Formats a duration in seconds: 48 s, 3 min 05 s, 2 h 10 min."""
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
    """Formats a number of bytes: 8.2 MB."""
    return filesizeformat(value or 0)


@register.filter
def unlocalized(value: float) -> str:
    """Formats a number for HTML attributes: no decimal comma, no thousands separator."""
    return str(value)


@register.filter
def rate(value: float | None) -> str:
    """Formats a rate per second: 1,200, or 3.2, or 0."""
    if value is None:
        return "–"
    return str(number_format(round(value, 1) if 0 < value < 10 else round(value), force_grouping=True))


@register.filter
def milliseconds(value: float | None) -> str:
    """Formats a short duration in seconds: 8 ms, 1.2 s."""
    if value is None:
        return "–"
    if value < 1:
        return _("%(n)d ms") % {"n": round(value * 1000)}
    return _("%(n)s s") % {"n": number_format(round(value, 1))}


@register.filter
def percent(value: float) -> str:
    """Formats a ratio as a percentage: 12%."""
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
    """Returns the label of a question type; an unknown type unchanged."""
    return str(QUESTION_TYPES.get(name, name))


@register.filter
def get(mapping: Any, key: Any) -> Any:
    """Returns the value of a dictionary for a variable key."""
    return mapping.get(key) if mapping else None


@register.filter
def as_json(value: Any) -> str:
    """Formats a value as indented JSON."""
    return json.dumps(value, ensure_ascii=False, indent=2)


@register.simple_tag(takes_context=True)
def querystring_without(context: dict[str, Any], *names: str) -> str:
    """Returns the query string of this page without the named parameters and without the cursor."""
    query = context["request"].GET.copy()
    for name in (*names, "cursor"):
        query.pop(name, None)
    return str(query.urlencode())


@register.filter
def plain(value: Any) -> Any:
    """Formats a value by its type: yes or no, a grouped number, a time, a date, a dash for None."""
    if value is None or isinstance(value, datetime):
        return ago(value)
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, date):
        return date_format(value, "DATE_FORMAT")
    if isinstance(value, int | float | Decimal):
        return number_format(value, force_grouping=True)
    return value


@register.simple_tag
def cell(item: Any, column: Any) -> Any:
    """Renders a column of a row, for lists without a row template of their own."""
    if choice := getattr(item, f"get_{column.value}_display", None):
        return choice()
    return plain(getattr(item, column.value, None) if column.value else None)
