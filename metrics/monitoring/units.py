"""Values of metrics as text, in the unit of the metric."""

from __future__ import annotations

from django.utils.formats import number_format
from django.utils.translation import gettext as _

from backoffice.templatetags import display
from metrics.monitoring.metric_types import Unit


def text(value: float | None, unit: Unit) -> str:
    """The value with its unit: 43 %, 12 ms, 3 min 05 s; a dash when it is missing."""
    if value is None:
        return "–"
    if unit == "s":
        return display.seconds(value) if value >= 10 else display.milliseconds(value)
    number = number_format(value, _decimals(value), use_l10n=True, force_grouping=True)
    return {
        "percent": _("%(n)s%%"),
        "1": "%(n)s",
        "1/s": _("%(n)s per second"),
        "1/min": _("%(n)s per minute"),
        "GiB": _("%(n)s GiB"),
        "days": _("%(n)s days"),
    }[unit] % {"n": number}


def _decimals(value: float) -> int:
    return 0 if value == int(value) or abs(value) >= 100 else 1 if abs(value) >= 1 else 2
