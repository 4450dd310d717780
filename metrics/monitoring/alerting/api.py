"""The API of alerts, and the preview of rules. Rules and silences are served by the API of records."""

from __future__ import annotations

from typing import Any, ClassVar, Final

import msgspec
from django.http import Http404
from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response

from backoffice import access
from backoffice.api import commands as command_view
from backoffice.api import openapi, permissions, problems, views
from backoffice.api import shapes as api_shapes
from events import context, errors, store, types
from metrics.monitoring.alerting import dispatching, domain, models, preview, report, rules, shapes

READS: Final = (400, 401, 403, 404, 429)
WRITES: Final = (400, 401, 403, 404, 409, 413, 415, 422, 429)
KEY: Final = openapi.in_path("key", "The alert's id: its rule and, for one of several targets, `:` and the target.")
STATES: Final = {"open": report.OPEN, "resolved": ("quiet",), "any": ("quiet", *report.OPEN)}
LATEST: Final = 100
READ_SCOPE: Final = "alerts:read"
WRITE_SCOPE: Final = "alerts:write"


def require(request: Request, action: str) -> None:
    """Raises 403 unless the caller may do `action` to alerts."""
    permissions.require_scope(request, READ_SCOPE if action == "view" else WRITE_SCOPE)
    if not access.may(request.user, action, domain.CATEGORY):
        raise problems.forbidden(f"{domain.CATEGORY}.{action}")


def found(key: str) -> models.Alert:
    row = None if "\0" in key else models.Alert.objects.filter(pk=key).first()
    if row is None:
        raise Http404
    return row


def whole(key: str) -> dict[str, Any]:
    """An alert with its latest events."""
    row = found(key)
    events = store.read_stream(types.stream_name(domain.CATEGORY, key), max(0, row.version - LATEST))
    return {**report.shown([row])[0], "events": [event.to_wire() for event in events]}


class Alerts(views.View):
    """Lists alerts."""

    operations = {
        "GET": openapi.Operation(
            id="list_alerts",
            summary="Alerts, the most urgent first",
            tag="alerts",
            parameters=(
                openapi.query("state", "", {"type": "string", "enum": list(STATES), "default": "open"}),
                openapi.query("rule", "Only alerts of this rule.", {"type": "string"}),
            ),
            response=openapi.ref("Alerts"),
            errors=(400, 401, 403, 429),
            scope=READ_SCOPE,
        )
    }

    def get(self, request: Request) -> Response:
        require(request, "view")
        views.allow_parameters(request, ("state", "rule"))
        asked, rule = request.query_params.get("state", "open"), request.query_params.get("rule")
        if asked not in STATES:
            detail = f"state takes {', '.join(STATES)}."
            raise problems.malformed(detail, "invalid_filter", parameter="state")
        rows = [row for row in report.alerts(STATES[asked]) if rule in (None, row.rule_id)]
        return Response({"items": report.shown(rows)})


class Alert(views.View):
    """One alert."""

    operations = {
        "GET": openapi.Operation(
            id="read_alert",
            summary="One alert and its latest events",
            tag="alerts",
            parameters=(KEY,),
            response=openapi.ref("AlertRecord"),
            errors=READS,
            scope=READ_SCOPE,
        )
    }

    def get(self, request: Request, key: str) -> Response:
        require(request, "view")
        views.allow_parameters(request, ())
        return Response(whole(key))


def _operation(verb: str, summary: str, body: str, description: str = "") -> dict[str, openapi.Operation]:
    operation = openapi.Operation(
        id=f"{verb}_alert",
        summary=summary,
        description=description,
        tag="alerts",
        parameters=(KEY,),
        request={openapi.JSON: openapi.ref(body)},
        response=openapi.ref("AlertRecord"),
        errors=WRITES,
        scope=WRITE_SCOPE,
    )
    return {"POST": operation}


class _Action(views.View):
    """Base of the actions of people on one alert."""

    verb: ClassVar[str]
    body: ClassVar[type[msgspec.Struct]]

    def post(self, request: Request, key: str) -> Response:
        require(request, self.verb)
        views.allow_parameters(request, ())
        found(key)
        asked = api_shapes.checked(self.body, command_view.as_object(request.data))
        command = types.Command(id=types.new_id(), key=key, data=self.command(asked, context.current().actor))
        dispatching.dispatch(command)
        return Response(whole(key))

    def command(self, asked: Any, by: str) -> types.CommandData:
        raise NotImplementedError


class Acknowledge(_Action):
    verb, body = "acknowledge", shapes.Acknowledgement
    operations = _operation(
        "acknowledge",
        "Take an alert on: it is not escalated or repeated meanwhile",
        "Acknowledgement",
        "409 `past_episode` when the episode is over or another one has begun.",
    )

    def command(self, asked: shapes.Acknowledgement, by: str) -> types.CommandData:
        return domain.AcknowledgeAlert(episode=asked.episode, by=by, note=asked.note, until=asked.until)


class Unacknowledge(_Action):
    verb, body = "acknowledge", shapes.AlertEpisode
    operations = _operation("unacknowledge", "End the acknowledgement of an alert", "AlertEpisode")

    def command(self, asked: shapes.AlertEpisode, by: str) -> types.CommandData:
        return domain.UnacknowledgeAlert(episode=asked.episode, by=by)


class Comment(_Action):
    verb, body = "comment", shapes.AlertRemark
    operations = _operation("comment", "Add a comment to an alert", "AlertRemark")

    def command(self, asked: shapes.AlertRemark, by: str) -> types.CommandData:
        return domain.CommentAlert(by=by, text=asked.text)


class Close(_Action):
    verb, body = "close", shapes.AlertClosing
    operations = _operation(
        "close",
        "Close an episode: no more messages about it",
        "AlertClosing",
        "The episode ends when the value is calm; a new one can be raised then.",
    )

    def command(self, asked: shapes.AlertClosing, by: str) -> types.CommandData:
        return domain.CloseAlert(episode=asked.episode, by=by, why=asked.why)


class Escalate(_Action):
    verb, body = "escalate", shapes.AlertEpisode
    operations = _operation("escalate", "Escalate an alert now", "AlertEpisode")

    def command(self, asked: shapes.AlertEpisode, by: str) -> types.CommandData:
        return domain.EscalateAlert(episode=asked.episode, by=by)


class RulePreview(views.View):
    """Replays a rule over the stored history."""

    operations = {
        "POST": openapi.Operation(
            id="preview_rule",
            summary="How often a rule would have fired",
            description="Nothing is stored. The rule is judged at every slot of the history, as it would have been.",
            tag="rules",
            request={openapi.JSON: openapi.ref("RulePreviewRequest")},
            response=openapi.ref("RulePreview"),
            errors=(400, 401, 403, 404, 413, 415, 422, 429, 503),
            scope="rules:read",
        )
    }

    def post(self, request: Request) -> Response:
        permissions.require_view(request, rules.CATEGORY)
        views.allow_parameters(request, ())
        asked = api_shapes.checked(shapes.RulePreviewRequest, command_view.as_object(request.data))
        try:
            rule = preview.changed_rule(asked.id, asked.data)
        except models.Rule.DoesNotExist:
            raise Http404 from None
        try:
            found = preview.over_history(rule, hours=asked.hours, target=asked.target)
        except preview.NoHistory as error:
            raise errors.StoreUnavailable(str(error)) from error
        return Response(preview.answer(found, asked.hours))


urlpatterns = [
    path("alerts/", Alerts.as_view(), name="api-alerts"),
    path("alerts/<str:key>/", Alert.as_view(), name="api-alert"),
    path("alerts/<str:key>/acknowledge/", Acknowledge.as_view(), name="api-alert-acknowledge"),
    path("alerts/<str:key>/unacknowledge/", Unacknowledge.as_view(), name="api-alert-unacknowledge"),
    path("alerts/<str:key>/comment/", Comment.as_view(), name="api-alert-comment"),
    path("alerts/<str:key>/close/", Close.as_view(), name="api-alert-close"),
    path("alerts/<str:key>/escalate/", Escalate.as_view(), name="api-alert-escalate"),
    path("rules/preview/", RulePreview.as_view(), name="api-rules-preview"),
]
