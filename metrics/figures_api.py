"""`metrics/users/` and `metrics/forms/`: figures of all users and of days, with the position that they describe."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response

from backoffice.api import openapi, permissions, views
from backoffice.api.streams import CONSISTENT
from metrics import catalogue, ranges

DATE: Final = {"type": "string", "format": "date"}
RANGE: Final = {"type": "string", "pattern": f"^{ranges.RANGE.pattern}$", "default": ranges.DEFAULT}

RANGE_PARAMETERS: Final = (
    openapi.query(
        "range",
        "A whole number of m (minutes), h, d or y, at most a year. `7d` is today and the six days before.",
        RANGE,
    ),
    openapi.query("from", "With `to`, instead of `range`: the first UTC date.", DATE),
    openapi.query("to", "The last UTC date, included; at most a year after `from`.", DATE),
)


class UserMetrics(views.View):
    """Users by plan and month of sign-up, from a view that is refreshed every five minutes."""

    reads_standby = True
    operations = {
        "GET": openapi.Operation(
            id="read_user_metrics",
            summary="Users by plan and month of sign-up",
            description="Refreshed every five minutes; `as_of` says when. 503 `not_computed` before the first refresh.",
            tag="metrics",
            response=openapi.ref("UserMetrics"),
            errors=(400, 401, 403, 429, 503),
            scope="users:read",
        )
    }

    def get(self, request: Request) -> Response:
        permissions.require_view(request, "user")
        views.allow_parameters(request, ())
        found = catalogue.user_analytics(request.user)
        return Response(envelope(found.items, found.position, found.at))


class FormMetrics(views.View):
    """Forms, their owners and submissions of every day of a range."""

    reads_standby = True
    operations = {
        "GET": openapi.Operation(
            id="read_form_metrics",
            summary="Forms and submissions of every day",
            description="At most a second old; with `consistent=1` everything written before is in it, or 504.",
            tag="metrics",
            parameters=(*RANGE_PARAMETERS, CONSISTENT),
            response=openapi.ref("FormMetrics"),
            errors=(400, 401, 403, 429, 503, 504),
            scope="forms:read",
        )
    }

    def get(self, request: Request) -> Response:
        permissions.require_view(request, "form")
        views.allow_parameters(request, (*ranges.PARAMETERS, "consistent"))
        days = ranges.days(request.query_params)
        answer = catalogue.form_days(days, request.user, consistent="consistent" in request.query_params)
        rows = [{name: getattr(row, name) for name in COLUMNS} for row in answer.value]
        return Response(envelope(rows, answer.position, answer.at))


COLUMNS: Final = ("date", "forms_created", "unique_users", "submissions", "avg_completion_time")


def envelope(items: Sequence[Any], position: int, at: datetime) -> dict[str, Any]:
    """Rows, and the position and time that they describe."""
    rows = [item if isinstance(item, dict) else msgspec.structs.asdict(item) for item in items]
    return {"items": rows, "as_of": {"position": position, "at": at}}


urlpatterns = [
    path("metrics/users/", UserMetrics.as_view(), name="api-metrics-users"),
    path("metrics/forms/", FormMetrics.as_view(), name="api-metrics-forms"),
]
