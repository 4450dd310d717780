"""The API of the samples: the history of one metric, and the newest sample in brief."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final, cast
from zoneinfo import ZoneInfo

import msgspec
from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response

from backoffice import health
from backoffice.api import openapi, permissions, problems, views
from events.db import timeouts
from metrics.monitoring import metric_types, shapes
from metrics.monitoring.history import ranges, read, tables
from metrics.monitoring.metric_types import SLOT_SECONDS

STATEMENT_SECONDS: Final = 5.0
FRESH_SLOTS: Final = 6  # 30 seconds
MAX_SLOT: Final = 2**40
MAX_NAME: Final = 200
PARAMETERS: Final = ("metric", "target", "range", "from", "to", "step", "tz", "after")
TEXT: Final = {"type": "string"}


class MetricHistory(views.View):
    """Answers with the points of one metric."""

    reads_standby = True  # the newest samples may be missing there; `slot` says which ones are included
    needs_primary = views.View.needs_primary | {"after"}  # a chart asks for its missing samples until it has them
    operations = {
        "GET": openapi.Operation(
            id="read_metric_history",
            summary="History of a metric",
            description="Up to now (`range`) or between two instants or dates (`from`, `to`). Answers with at most 600 "
            "points unless `step` asks for more, and refuses more than 2,000. Metrics of the system need the right to "
            "see it, others the right to see the records that they count.",
            tag="system",
            scope="system:read",
            errors=(400, 401, 403, 404, 429, 503),
            response=openapi.ref("History"),
            parameters=(
                openapi.query("metric", "The name of the metric.", TEXT) | {"required": True},
                openapi.query("target", "One host or subscription; without it the worst of all.", TEXT),
                openapi.query("range", "A number followed by m, h, d or y; 1h by default.", TEXT),
                openapi.query("from", "The start, an instant or a date, in place of `range`.", TEXT),
                openapi.query("to", "The end; a date includes that day. Now by default.", TEXT),
                openapi.query("step", "Such as 5s, 1m, 6h or 1d; chosen by the length of the range.", TEXT),
                openapi.query("tz", "The time zone of days, such as Europe/Paris; UTC by default.", TEXT),
                openapi.query(
                    "after", "Only points after this slot, to continue a chart.", {"type": "integer", "minimum": 0}
                ),
            ),
        )
    }

    def get(self, request: Request) -> Response:
        views.allow_parameters(request, PARAMETERS)
        metric = _metric(request)
        target = request.query_params.get("target", "")
        if len(target) > MAX_NAME or (target and metric.group == "cluster"):
            raise problems.malformed("This metric has no such target.", "invalid_parameter", parameter="target")
        after = views.integer(request, "after", -1, most=MAX_SLOT)
        with timeouts.at_most(STATEMENT_SECONDS):
            try:
                zone = _zone(request)
                found = read.points(
                    metric.name,
                    _range(request, zone),
                    _step(request),
                    zone,
                    after_slot=after if after >= 0 else None,
                    target=target,
                )
            except ranges.BadRange as error:
                raise problems.malformed(str(error), "invalid_parameter", parameter=error.parameter) from None
        return Response(msgspec.structs.asdict(found))


def _metric(request: Request) -> metric_types.Metric:
    """The metric that is asked for, if the caller may see it."""
    name = request.query_params.get("metric", "")
    metric = metric_types.METRICS.get(name)
    if metric is None or metric.kind == "retired":
        permissions.require_system(request, "view")
        raise problems.malformed("No metric has this name.", "unknown_metric", parameter="metric")
    require_metric(request, metric)
    return metric


def require_metric(request: Request, metric: metric_types.Metric) -> None:
    """Raises 403 unless the caller may see the history of a metric."""
    if metric.right == "system":
        permissions.require_system(request, "view")
    else:
        permissions.require_view(request, metric.right)


def _zone(request: Request) -> ZoneInfo:
    name = request.query_params.get("tz", "UTC")
    try:
        if len(name) > MAX_NAME:
            raise ValueError(name)
        return ZoneInfo(name)
    except (ValueError, KeyError, OSError):
        raise ranges.BadRange("tz", "tz is the name of a time zone, such as Europe/Paris.") from None


def _range(request: Request, zone: ZoneInfo) -> ranges.Range:
    """The range that is asked for; up to the end of the present slot, which then is its last point."""
    asked = request.query_params
    now = datetime.fromtimestamp((tables.present_slot() + 1) * SLOT_SECONDS, UTC)
    if "from" in asked:
        if "range" in asked:
            raise ranges.BadRange("range", "Send range, or from and to.")
        return ranges.between(asked["from"], asked.get("to", now.isoformat()), zone)
    if "to" in asked:
        raise ranges.BadRange("to", "Send from together with to.")
    return ranges.parse(asked.get("range", "1h"), now, zone)


def _step(request: Request) -> int | None:
    text = request.query_params.get("step")
    return None if text is None else ranges.parse_step(text)


class SystemHealth(views.View):
    """Answers with the newest sample in brief."""

    operations = {
        "GET": openapi.Operation(
            id="read_system_health",
            summary="Health of the system",
            tag="system",
            scope="system:read",
            errors=(400, 401, 403, 429, 503),
            response=openapi.ref("SystemHealth"),
        )
    }

    def get(self, request: Request) -> Response:
        permissions.require_system(request, "view")
        views.allow_parameters(request, ())
        with timeouts.at_most(STATEMENT_SECONDS):
            slot, values = read.latest()
            fresh = slot is not None and tables.present_slot() - slot <= FRESH_SLOTS
        return Response(_health(slot, values if fresh else {}))


def _health(slot: int | None, values: dict[str, float | None]) -> dict[str, Any]:
    found = shapes.SystemHealth(
        active_users=values.get("users.active"),
        system_load=shapes.SystemLoad(
            cpu=values.get("cpu.percent"),
            memory=values.get("memory.percent"),
            disk_free=values.get("disk.free"),
            load_per_cpu=values.get("load.per_cpu"),
        ),
        database=shapes.DatabaseHealth(
            state=health.database(), latency=values.get("db.latency"), connections=values.get("db.connections")
        ),
        websockets=shapes.WebsocketHealth(
            connections=values.get("sockets.open"),
            lag_p99=values.get("sockets.lag_p99"),
            polling=values.get("sockets.polling"),
        ),
        errors=shapes.ErrorHealth(
            rate=values.get("errors.rate"), requests=values.get("requests.count"), errors=values.get("errors.count")
        ),
        timestamp=None if slot is None else datetime.fromtimestamp(slot * SLOT_SECONDS, UTC),
    )
    return cast("dict[str, Any]", msgspec.to_builtins(found, builtin_types=(datetime,)))


urlpatterns = [
    path("metrics/history/", MetricHistory.as_view(), name="api-metric-history"),
    path("metrics/health/", SystemHealth.as_view(), name="api-system-health"),
]
