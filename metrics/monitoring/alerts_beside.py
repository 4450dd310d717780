"""The firing alerts about the subject of an operator page, shown beside its numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from django.urls import reverse

from backoffice import access
from metrics.monitoring.alerting import dispatching, domain, models, report

# Page -> the beginnings of the metrics that it shows; the page of the health shows all.
ABOUT: Final[dict[str, tuple[str, ...]]] = {
    "health": ("",),
    "subscriptions": ("subscription.", "subscriptions."),
    "subscription": ("subscription.",),
    "head": ("log.", "seal."),
    "rebuilds": ("db.",),
    "sockets": ("sockets.", "valkey."),
    "cache": ("cache.", "valkey."),
}


@dataclass(frozen=True, slots=True)
class AlertBeside:
    """A firing alert with the title of its rule and the address of its page."""

    row: models.Alert
    title: str
    url: str


def of_page(page: str, staff: Any, subscription: str = "") -> list[AlertBeside]:
    """The firing alerts about the subject of a page, the most urgent first.

    On the page of one subscription those of other subscriptions are left out.
    """
    beginnings = ABOUT.get(page, ())
    if not beginnings or not access.may(staff, "view", domain.CATEGORY):
        return []
    firing = report.firing()
    rules = models.by_id(models.Rule.objects.filter(pk__in={row.rule_id for row in firing})) if firing else {}
    return [
        AlertBeside(row, dispatching.title_of(rule.title), reverse("admin:alerts_alert", args=[row.pk]))
        for row in firing
        if (rule := rules.get(row.rule_id)) is not None
        and rule.metric.startswith(beginnings)
        and _concerns(row.target, subscription)
    ]


def _concerns(target: str, subscription: str) -> bool:
    """Whether an alert of this target is about the subscription; a partition is ``name/number``."""
    return not subscription or not target or target.partition("/")[0] == subscription
