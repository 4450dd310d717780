"""Reads events: the stream of one record, its state at a version or time, and the whole log in order."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from django.http import Http404
from django.utils.dateparse import parse_datetime
from rest_framework.request import Request
from rest_framework.response import Response

from backoffice import access, section
from backoffice.api import openapi, permissions, problems, views
from events import aggregate, errors, head, search, snapshots, store, types

LIMIT: Final = 100
MAX_LIMIT: Final = 1000

# "+" in a query means a space, so an instant with a zone such as +02:00 arrives with a space instead.
LOST_PLUS = re.compile(r" (\d\d:?\d\d)$")
STREAM = re.compile(r"[a-z][a-z0-9_]*-[^\0]{1,200}")

NUMBER: Final = {"type": "integer", "minimum": 0, "default": 0}
AFTER = openapi.query("after", "Only events after this position.", NUMBER)
AFTER_VERSION = openapi.query("after", "Only events after this version.", NUMBER)
LIMITED = openapi.query(
    "limit", "Maximum number of events.", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": LIMIT}
)
CONSISTENT = openapi.query(
    "consistent", "The answer includes all changes committed before the request.", {"type": "string", "enum": ["1"]}
)
STREAM_NAME = openapi.in_path("stream", "A record's stream, such as `user-<id>` or `setting-<name>`.")


class Events(views.View):
    """Reads the log in global order; polling misses no event."""

    reads_standby = True
    operations = {
        "GET": openapi.Operation(
            id="read_events",
            summary="Read events in global order",
            description=(
                "With `type`, one request searches at most a million positions, so `items` may be empty although "
                "matching events follow: continue with `after` = `reached` until `end` is true."
            ),
            tag="events",
            parameters=(
                AFTER,
                LIMITED,
                openapi.query("type", "Only events of these types, separated by commas.", {"type": "string"}),
                CONSISTENT,
            ),
            response=openapi.ref("EventPage"),
            errors=(400, 401, 403, 429, 503),
            scope="events:read",
        )
    }

    def get(self, request: Request) -> Response:
        permissions.require_events(request)
        views.allow_parameters(request, ("after", "limit", "type", "consistent"))
        limit = views.integer(request, "limit", LIMIT, least=1, most=MAX_LIMIT)
        after = views.integer(request, "after", 0)
        wanted = _types(request)
        safe = head.safe()
        if wanted is None:
            events = store.read_all(after, limit, upto=safe) if after < safe else []
            reached = events[-1].position if len(events) == limit else max(after, safe)
        else:  # does not search archive files: the error `archived` names their last position
            found = search.read_stretch(after, limit, upto=safe, types=wanted)
            events, reached = found.events, found.reached
        is_full = len(events) == limit
        answer = {
            "items": [wire(request, event) for event in events],
            "reached": reached,
            "end": not is_full and reached >= safe,
            # Earlier clients continue after `head` where a page is not full.
            "head": safe if is_full else min(safe, reached),
        }
        return Response(answer)


def _types(request: Request) -> list[str] | None:
    text = request.query_params.get("type")
    if not text:
        return None
    known = [kind.name for kind in types.event_types()]
    wanted = text.split(",")
    for name in wanted:
        if name not in known:
            detail = f"There is no event type {name!r}; known: {', '.join(known)}."
            raise problems.malformed(detail, "unknown_filter", parameter="type", allowed=known)
    return wanted


class Stream(views.View):
    """Reads the events of one record."""

    reads_standby = True
    operations = {
        "GET": openapi.Operation(
            id="read_stream",
            summary="Read the events of one record",
            tag="events",
            parameters=(STREAM_NAME, AFTER_VERSION, LIMITED, CONSISTENT),
            response=openapi.ref("StreamPage"),
            errors=(400, 401, 403, 404, 429),
            scope="events:read, or the read scope of the record",
        )
    }

    def get(self, request: Request, stream: str) -> Response:
        name = readable(request, stream)
        views.allow_parameters(request, ("after", "limit", "consistent"))
        limit = views.integer(request, "limit", LIMIT, least=1, most=MAX_LIMIT)
        after = views.integer(request, "after", 0)
        version = existing(name)
        found = store.read_stream(name, after, limit)
        return Response({"items": [wire(request, event) for event in found], "version": version})


class State(views.View):
    """Reads a record at a version or time."""

    reads_standby = True
    operations = {
        "GET": openapi.Operation(
            id="read_state",
            summary="Read a record at a version or time",
            description="Without `version` and `at`: the current state.",
            tag="events",
            parameters=(
                STREAM_NAME,
                openapi.query(
                    "version", "The state after the event with this version.", {"type": "integer", "minimum": 0}
                ),
                openapi.query("at", "The state at this time (ISO 8601).", {"type": "string", "format": "date-time"}),
                CONSISTENT,
            ),
            response=openapi.ref("State"),
            errors=(400, 401, 403, 404, 429),
            scope="events:read, or the read scope of the record",
        )
    }

    def get(self, request: Request, stream: str) -> Response:
        name = readable(request, stream)
        views.allow_parameters(request, ("version", "at", "consistent"))
        current, at = existing(name), instant(request, "at")
        wanted = views.integer(request, "version", current)
        if at is not None and "version" in request.query_params:
            raise problems.malformed(
                "Ask for a version or for an instant, not both.", "invalid_parameter", parameter="at"
            )
        if wanted > current:
            raise problems.Problem(404, "not_found", f"{name} is at version {current}.")
        if not wanted and at is None:
            return Response({"stream": name, "version": 0, "state": None})
        category = types.category_of(name)
        found = snapshots.folded(name, at=at) if at else snapshots.folded(name, wanted)
        state = aggregate.of_category(category).dump(found.state)
        shown = access.redact(request.user, category, state) if found.version else None
        answer = {"stream": name, "version": found.version, "state": shown}
        if found.unreadable:
            answer["unreadable"] = [
                {"position": event.position, "version": event.version, "unreadable": event.unreadable}
                for event in found.unreadable
            ]
        return Response(answer)


def readable(request: Request, stream: str) -> str:
    """Returns the stream's name in its stored form. Raises 403 or 404 if the caller may not read it."""
    if not STREAM.fullmatch(stream):
        raise Http404
    category, key = types.category_of(stream), types.key_of(stream)
    permissions.require_stream(request, category)
    kind = section.find(category)
    if kind is None:
        return stream
    try:
        return types.stream_name(category, kind.key(key))
    except errors.InvalidCommand:
        raise Http404 from None


def existing(stream: str) -> int:
    """Returns the stream's version. Raises 404 if it has no events."""
    version = store.version_of(stream)
    if version == 0:
        raise Http404
    return version


def instant(request: Request, name: str) -> datetime | None:
    """Returns a time from the query; without a zone it is UTC. Raises 400 naming the parameter."""
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        moment = parse_datetime(LOST_PLUS.sub(r"+\1", text))
        if moment is not None:
            return (moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment).astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    detail = f"{name} must be an instant such as 2026-01-31T12:00:00Z."
    raise problems.malformed(detail, "invalid_parameter", parameter=name)


def wire(request: Request, event: types.RecordedEvent) -> types.JsonDict:
    """Returns the event as JSON without the fields that are hidden from the caller."""
    shown = event.to_wire()
    shown["data"] = access.redact(request.user, event.category, event.data)
    return shown
