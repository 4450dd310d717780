"""The API of channels and deliveries."""

from __future__ import annotations

import uuid
from datetime import time
from typing import Any, Final

import msgspec
from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response

from backoffice import access
from backoffice.api import commands as command_view
from backoffice.api import openapi, permissions, problems, views
from backoffice.api import shapes as api_shapes
from events import errors
from metrics.monitoring.notify import changes, labels, models, shapes

LIMIT: Final = 50
MAX_LIMIT: Final = 200
READS: Final = (400, 401, 403, 404, 429, 503)
WRITES: Final = (400, 401, 403, 404, 409, 413, 415, 422, 429, 503)
CHANNEL: Final = openapi.in_path("channel", "The channel's id.")
DELIVERY: Final = openapi.in_path("delivery", "The delivery's id.")
STATES: Final = [state for state, _label in models.STATES]


def _require(request: Request, action: str) -> None:
    """Raises 403 unless the caller may do `action` (view, retry, edit) to channels."""
    permissions.require_scope(request, "alerts:read" if action == "view" else "alerts:write")
    if not access.may(request.user, action, "channel"):
        raise problems.forbidden(f"channel.{action}")


def _operation(
    name: str, summary: str, response: str, *parameters: openapi.Schema, body: str = "", writes: bool = True
) -> openapi.Operation:
    return openapi.Operation(
        id=name,
        summary=summary,
        tag="notifications",
        parameters=parameters,
        request={openapi.JSON: openapi.ref(body)} if body else None,
        response=openapi.ref(response),
        errors=WRITES if writes else READS,
        scope="alerts:write" if writes else "alerts:read",
    )


# -- channels ---------------------------------------------------------------------------------------------------------


class Channels(views.View):
    operations = {
        "GET": _operation("list_channels", "List notification channels", "Channels", writes=False),
        "POST": _operation("create_channel", "Create a notification channel", "Channel", body="NewChannel"),
    }

    def get(self, request: Request) -> Response:
        _require(request, "view")
        views.allow_parameters(request, ())
        found = models.Channel.objects.filter(deleted_at=None).order_by("name")
        return Response({"items": [_channel(request, one) for one in found]})

    def post(self, request: Request) -> Response:
        _require(request, "edit")
        views.allow_parameters(request, ())
        asked = api_shapes.checked(shapes.NewChannel, command_view.as_object(request.data))
        return _written(request, changes.write(None, _given(asked)))


class Channel(views.View):
    operations = {
        "GET": _operation("read_channel", "Read a notification channel", "Channel", CHANNEL, writes=False),
        "PATCH": _operation(
            "change_channel", "Change, pause or resume a channel", "Channel", CHANNEL, body="ChannelChanges"
        ),
        "DELETE": _operation("delete_channel", "Delete a channel and its secrets", "DeletedChannel", CHANNEL),
    }

    def get(self, request: Request, channel: str) -> Response:
        _require(request, "view")
        views.allow_parameters(request, ())
        return Response(_channel(request, changes.find(_known(channel))))

    def patch(self, request: Request, channel: str) -> Response:
        _require(request, "edit")
        views.allow_parameters(request, ())
        asked = api_shapes.checked(shapes.ChannelChanges, command_view.as_object(request.data))
        given = _given(asked)
        paused = given.pop("paused", None)
        written = changes.write(_known(channel), given)
        if paused is not None:
            (changes.pause if paused else changes.resume)(written.channel.pk)
        return _written(request, written)

    def delete(self, request: Request, channel: str) -> Response:
        _require(request, "edit")
        views.allow_parameters(request, ())
        deleted = _known(channel)
        changes.delete(deleted)
        return Response({"id": deleted})


class Test(views.View):
    operations = {"POST": _operation("test_channel", "Send a test message now", "Delivery", CHANNEL)}

    def post(self, request: Request, channel: str) -> Response:
        _require(request, "edit")
        views.allow_parameters(request, ())
        return Response(_delivery(changes.test(_known(channel))))


def _known(text: str) -> uuid.UUID:
    """The id in an address. Raises `StreamNotFound` for text that is no id."""
    try:
        return uuid.UUID(text)
    except ValueError:
        raise errors.StreamNotFound("There is no such channel or delivery.") from None


def _given(asked: msgspec.Struct) -> dict[str, Any]:
    """The fields that were sent, with times parsed."""
    given = {name: value for name, value in msgspec.structs.asdict(asked).items() if value is not msgspec.UNSET}
    for name in ("quiet_from", "quiet_until"):
        if given.get(name):
            given[name] = time.fromisoformat(given[name])
    return given


def _written(request: Request, written: changes.Written) -> Response:
    shown = _channel(request, changes.find(written.channel.pk))
    return Response(shown | ({"signing_key": written.signing_key} if written.signing_key else {}))


def _channel(request: Request, one: models.Channel) -> dict[str, Any]:
    names = ("id", "name", "kind", "language", "min_severity", "zone", "paused_at", "paused_why", "failures")
    return {
        "created_at": one.created_at,
        **{name: getattr(one, name) for name in names},
        "target": labels.target(one),
        "recipients": list(one.recipients) if access.may(request.user, "edit", "channel") else None,
        "quiet_from": _clock(one.quiet_from),
        "quiet_until": _clock(one.quiet_until),
        "paused": one.paused_at is not None,
    }


def _clock(value: time | None) -> str | None:
    return f"{value:%H:%M}" if value is not None else None


# -- deliveries -------------------------------------------------------------------------------------------------------


class Deliveries(views.View):
    operations = {
        "GET": _operation(
            "list_deliveries",
            "List deliveries and their attempts",
            "Deliveries",
            openapi.query("alert", "Only of this alert.", {"type": "string"}),
            openapi.query("channel", "Only to this channel.", {"type": "string", "format": "uuid"}),
            openapi.query("state", "Only in this state.", {"type": "string", "enum": STATES}),
            openapi.query("before", "Only older ones than this, `next` of the page before.", {"type": "integer"}),
            openapi.query(
                "limit",
                "Maximum number of deliveries.",
                {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": LIMIT},
            ),
            writes=False,
        )
    }

    def get(self, request: Request) -> Response:
        _require(request, "view")
        views.allow_parameters(request, ("alert", "channel", "state", "before", "limit"))
        limit = views.integer(request, "limit", LIMIT, least=1, most=MAX_LIMIT)
        found = models.Delivery.objects.select_related("channel").prefetch_related("tries").order_by("-id")
        if before := views.integer(request, "before", 0):
            found = found.filter(pk__lt=before)
        if alert := request.query_params.get("alert"):
            found = found.filter(alert=alert) if "\0" not in alert else found.none()
        if (state := request.query_params.get("state")) is not None:
            if state not in STATES:
                raise problems.malformed(
                    f"state is one of {', '.join(STATES)}.", "invalid_parameter", parameter="state"
                )
            found = found.filter(state=state)
        if channel := request.query_params.get("channel"):
            found = found.filter(channel=_uuid(channel))
        items = list(found[: limit + 1])
        more = items[limit - 1].pk if len(items) > limit else None
        return Response({"items": [_delivery(one) for one in items[:limit]], "next": more})


def _uuid(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        raise problems.malformed("channel must be a UUID.", "invalid_parameter", parameter="channel") from None


class Retry(views.View):
    operations = {"POST": _operation("retry_delivery", "Send a delivery again", "Delivery", DELIVERY)}

    def post(self, request: Request, delivery: str) -> Response:
        _require(request, "retry")
        views.allow_parameters(request, ())
        found = models.Delivery.objects.filter(message_id=_known(delivery)).first()
        if found is None:
            raise errors.StreamNotFound("There is no such delivery.")
        changes.retry(found.pk)
        found.refresh_from_db()
        return Response(_delivery(found))


def _delivery(one: models.Delivery) -> dict[str, Any]:
    names = ("alert", "episode", "cause", "kind", "severity", "state", "why", "late", "decided_at", "due")
    tries = sorted(one.tries.all(), key=lambda tried: tried.number)
    return {
        "id": one.message_id,
        "channel": one.channel_id,
        **{name: getattr(one, name) for name in (*names, "delivered_at", "answer", "facts")},
        "attempts": [
            {
                "number": tried.number,
                "started_at": tried.started_at,
                "finished_at": tried.finished_at,
                "outcome": tried.outcome or None,
                "answer": tried.answer,
            }
            for tried in tries
        ],
    }


urlpatterns = [
    path("channels/", Channels.as_view(), name="api-channels"),
    path("channels/<str:channel>/", Channel.as_view(), name="api-channel"),
    path("channels/<str:channel>/test/", Test.as_view(), name="api-channel-test"),
    path("deliveries/", Deliveries.as_view(), name="api-deliveries"),
    path("deliveries/<str:delivery>/retry/", Retry.as_view(), name="api-delivery-retry"),
]
