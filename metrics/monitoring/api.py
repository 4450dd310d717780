"""The API of the operator pages: subscriptions and their parked streams, the head of the log, rebuilds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response

from backoffice import access
from backoffice.api import commands as command_view
from backoffice.api import openapi, permissions, views
from backoffice.api import shapes as api_shapes
from events import context, errors, head, jobs, partitions
from events.db import timeouts
from events.subscriptions import checkpoints, parked
from metrics.monitoring import history_api, overview, shapes

STATEMENT_SECONDS: Final = 5.0  # limit for one statement of a GET request
LIMIT: Final = 100
MAX_LIMIT: Final = 1000
READS: Final = (400, 401, 403, 404, 429, 503)
WRITES: Final = (400, 401, 403, 404, 409, 413, 415, 422, 429, 503)
NAME: Final = openapi.in_path("name", "The subscription's name.")
TABLE: Final = openapi.in_path("table", "The read table's name.")
READ_SCOPE: Final = "system:read"
WRITE_SCOPE: Final = "system:write"


def _read(name: str, summary: str, shape: str, *parameters: openapi.Schema) -> dict[str, openapi.Operation]:
    operation = openapi.Operation(
        id=name,
        summary=summary,
        tag="system",
        parameters=parameters,
        response=openapi.ref(shape),
        errors=READS,
        scope=READ_SCOPE,
    )
    return {"GET": operation}


def _action(
    name: str, summary: str, body: str, shape: str, *parameters: openapi.Schema, description: str = ""
) -> dict[str, openapi.Operation]:
    operation = openapi.Operation(
        id=name,
        summary=summary,
        description=description,
        tag="system",
        parameters=parameters,
        request={openapi.JSON: openapi.ref(body)},
        response=openapi.ref(shape),
        errors=WRITES,
        scope=WRITE_SCOPE,
    )
    return {"POST": operation}


def _error(request: Request, error: str | None) -> str | None:
    """The error text; None for callers who may not see all fields, because errors quote data."""
    return error if access.may_read_errors(request.user) else None


# -- subscriptions --------------------------------------------------------------------------------------------------


class Subscriptions(views.View):
    """Lists all checkpoints."""

    operations = _read("list_subscriptions", "State of every subscription", "Checkpoints")

    def get(self, request: Request) -> Response:
        permissions.require_system(request, "view")
        views.allow_parameters(request, ())
        with timeouts.at_most(STATEMENT_SECONDS):
            found, safe = overview.observed_subscriptions(), head.safe()
        return Response({"items": [_checkpoint(request, one) for one in found], "head": safe})


def _checkpoint(request: Request, one: overview.ObservedSubscription) -> dict[str, Any]:
    status = one.status.checkpoint
    return {
        "name": status.name,
        "subscription": one.status.subscription,
        "state": one.status.state,
        "position": status.position,
        "behind": one.status.behind,
        "many": one.status.many,
        "seconds": one.status.seconds,
        "pace": one.throughput,
        "owner": status.owner,
        "leased_until": status.leased_until,
        "fence": status.fence,
        "updated_at": status.updated_at,
        "error": _error(request, status.error),
        "parked": status.parked,
    }


class ParkedStreams(views.View):
    """Lists the parked streams of one subscription."""

    operations = _read(
        "list_parked_streams",
        "List parked streams",
        "ParkedStreams",
        NAME,
        openapi.query("after", "Only streams whose first parked event is after this position.", {"type": "integer"}),
        openapi.query(
            "limit",
            "Maximum number of streams.",
            {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": LIMIT},
        ),
    )

    def get(self, request: Request, name: str) -> Response:
        permissions.require_system(request, "view")
        views.allow_parameters(request, ("after", "limit"))
        checkpoints.find(name)
        limit = views.integer(request, "limit", LIMIT, least=1, most=MAX_LIMIT)
        after = views.integer(request, "after", 0)
        with timeouts.at_most(STATEMENT_SECONDS):
            found = parked.parked(name, limit=limit + 1, after=after)
        return Response({"items": [_parked(request, one) for one in found[:limit]], "more": len(found) > limit})


def _parked(request: Request, one: parked.Parked) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.structs.asdict(one)
    kept = {
        "event": shown.pop("type"),
        "error": _error(request, one.error),
        "traceback": _error(request, one.traceback),
    }
    return shown | kept


class Replay(views.View):
    """Replays parked streams."""

    operations = _action(
        "replay_parked_streams",
        "Replay parked events",
        "Replay",
        "Replays",
        NAME,
        description="Handles the events in order, each in its own transaction, until one fails. The time is "
        "limited: the answer lists the events that are left for the next call.",
    )

    def post(self, request: Request, name: str) -> Response:
        permissions.require_system(request, "replay")
        views.allow_parameters(request, ())
        asked = api_shapes.checked(shapes.Replay, command_view.as_object(request.data))
        checkpoints.find(name)
        streams = overview.parked_streams(name) if asked.streams is None else asked.streams
        with context.acting(reason=asked.reason):
            outcomes = parked.replay_each(name, streams, seconds=overview.REPLAY_SECONDS)
        if asked.streams is not None and len(streams) == 1 and not outcomes:
            raise errors.NotParked(f"Nothing of {streams[0]} is parked for {name}.")
        return Response({"results": [_replayed(request, stream, outcome) for stream, outcome in outcomes.items()]})


def _replayed(request: Request, stream: str, outcome: parked.Outcome) -> dict[str, Any]:
    """The result for one stream. Every caller sees that it failed, but only some may see the error."""
    error = outcome.error and (_error(request, outcome.error) or "failed")
    return {"stream": stream, "handled": outcome.handled, "left": outcome.left, "error": error}


class Skip(views.View):
    """Skips one parked event."""

    operations = _action(
        "skip_parked_event",
        "Skip a parked event",
        "Skip",
        "ParkedStreams",
        NAME,
        description="The subscription will never handle the event; the event stays in the log. The events behind it "
        "stay parked: replay them. Answers with the rest of the stream.",
    )

    def post(self, request: Request, name: str) -> Response:
        permissions.require_system(request, "skip")
        views.allow_parameters(request, ())
        asked = api_shapes.checked(shapes.Skip, command_view.as_object(request.data))
        parked.skip(name, asked.stream, asked.position, asked.reason)
        left = parked.parked(name, asked.stream)
        return Response({"items": [_parked(request, one) for one in left], "more": False})


# -- the log --------------------------------------------------------------------------------------------------------


class Head(views.View):
    """Shows the head of the log and the sessions that hold it back."""

    operations = _read("read_head", "Head of the log and the sessions that hold it", "LogHead")

    def get(self, request: Request) -> Response:
        permissions.require_system(request, "view")
        views.allow_parameters(request, ())
        with timeouts.at_most(STATEMENT_SECONDS):
            return Response(_head())


class Verify(views.View):
    """Requests a check of the whole log."""

    operations = _action("verify_log", "Have a worker check the whole log", "Because", "LogHead")

    def post(self, request: Request) -> Response:
        permissions.require_system(request, "verify")
        views.allow_parameters(request, ())
        asked = api_shapes.checked(api_shapes.Because, command_view.as_object(request.data))
        with context.acting(reason=asked.reason):
            jobs.request_verification()
        return Response(_head())


def _head() -> dict[str, Any]:
    safe, found = head.safe(), partitions.capacity()
    result, requested = jobs.last_verification()
    return {
        "epoch": head.epoch(),
        "head": safe,
        "last": head.last(),
        "holders": [_holder(holder) for holder in head.holders()],
        "partitions": [_partition(one) for one in found.partitions],
        "room": found.headroom,
        "seal": msgspec.structs.asdict(overview.sealed(safe)),
        "verification": {"at": result.recorded_at, "actor": result.actor, **_result(result.data)} if result else None,
        "checking": requested.recorded_at if requested else None,
    }


def _holder(one: head.Holder) -> dict[str, Any]:
    names = ("floor", "pid", "gid", "application", "state", "since", "seconds", "doing", "waits_for")
    return {name: getattr(one, name) for name in names} | {"login": one.user}


def _partition(one: partitions.Partition) -> dict[str, Any]:
    return {name: getattr(one, name) for name in ("name", "first", "last", "drawn", "bytes")}


def _result(data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: data[name] for name in ("ok", "events", "head", "sealed_upto", "total", "findings")}


# -- rebuilds -------------------------------------------------------------------------------------------------------


class Rebuilds(views.View):
    """Lists all read tables with their latest rebuilds."""

    operations = _read("list_rebuilds", "Read tables and their rebuilds", "Rebuilds")

    def get(self, request: Request) -> Response:
        permissions.require_system(request, "view")
        views.allow_parameters(request, ())
        with timeouts.at_most(STATEMENT_SECONDS):
            return Response({"items": [_rebuild(request, one) for one in overview.read_tables()]})


class _RebuildAction(views.View):
    """Base of the actions on the rebuild of one table."""

    def _answer(self, request: Request, table: str) -> Response:
        return Response(next(_rebuild(request, one) for one in overview.read_tables() if one.name == table))


class Rebuild(_RebuildAction):
    operations = _action(
        "rebuild_table",
        "Have a worker rebuild a read table",
        "RebuildRequest",
        "Rebuild",
        TABLE,
        description="The current table stays in use until the new one is complete. 409 while a rebuild is running.",
    )

    def post(self, request: Request, table: str) -> Response:
        permissions.require_system(request, "rebuild")
        views.allow_parameters(request, ())
        asked = api_shapes.checked(shapes.RebuildRequest, command_view.as_object(request.data))
        overview.known(table)
        with context.acting(reason=asked.reason):
            jobs.request_rebuild(table, fresh=asked.fresh, take_over=asked.take_over)
        return self._answer(request, table)


class CancelRebuild(_RebuildAction):
    operations = _action(
        "cancel_rebuild", "Stop a rebuild and keep the part that is built", "Because", "Rebuild", TABLE
    )

    def post(self, request: Request, table: str) -> Response:
        permissions.require_system(request, "rebuild")
        views.allow_parameters(request, ())
        asked = api_shapes.checked(api_shapes.Because, command_view.as_object(request.data))
        overview.known(table)
        with context.acting(reason=asked.reason):
            jobs.cancel_rebuild(table)
        return self._answer(request, table)


def _rebuild(request: Request, one: overview.ReadTable) -> dict[str, Any]:
    progress = one.progress
    names = ("phase", "position", "target", "events", "unreadable", "seconds_left", "owner")
    moments = ("started_at", "updated_at", "finished_at")
    return {
        "table": one.name,
        "state": one.state,
        **{name: getattr(progress, name) for name in (*names, *moments)},
        "error": _error(request, progress.error),
        "rows": one.rows,
        "bytes": one.bytes,
    }


urlpatterns = [
    *history_api.urlpatterns,
    path("system/subscriptions/", Subscriptions.as_view(), name="api-subscriptions"),
    path("system/subscriptions/<str:name>/parked/", ParkedStreams.as_view(), name="api-parked"),
    path("system/subscriptions/<str:name>/replay/", Replay.as_view(), name="api-replay"),
    path("system/subscriptions/<str:name>/skip/", Skip.as_view(), name="api-skip"),
    path("system/head/", Head.as_view(), name="api-head"),
    path("system/head/verify/", Verify.as_view(), name="api-verify"),
    path("system/rebuilds/", Rebuilds.as_view(), name="api-rebuilds"),
    path("system/rebuilds/<str:table>/start/", Rebuild.as_view(), name="api-rebuild"),
    path("system/rebuilds/<str:table>/cancel/", CancelRebuild.as_view(), name="api-cancel-rebuild"),
]
