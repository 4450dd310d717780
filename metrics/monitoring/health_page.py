"""Operator page for the health of the system: every dependency with its state, reason, effect and remedy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _

from metrics.monitoring import dependencies, operator_action
from metrics.monitoring.operator_action import OperatorPages, Route


class HealthPages(OperatorPages):
    def routes(self) -> Sequence[Route]:
        return (Route("health/", "health", self.index),)

    @operator_action.page
    def index(self, request: HttpRequest) -> HttpResponse:
        found = dependencies.statuses()
        states = Counter(status.state for status in found)
        context = {
            "title": _("Health"),
            "statuses": found,
            "bad": states["bad"],
            "warn": states["warn"],
            "unknown": states["unknown"],
        }
        return self.render(request, "health", context)
