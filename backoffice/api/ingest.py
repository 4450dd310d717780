"""`POST ingest/`: CloudEvents 1.0 from FormEase, each becoming the command it stands for.

Three ways of sending (CloudEvents HTTP binding): *structured* (`application/cloudevents+json`), *binary* (attributes as
`ce-…` headers, the data as body) and *batch* (`application/cloudevents-batch+json`). What was taken once is not taken
again: the command's id follows from `source` and `id`.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import msgspec
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.response import Response

from backoffice import section
from backoffice.api import commands as command_view
from backoffice.api import openapi, parsing, problems, shapes, throttling, views
from events import commands, errors, strict_json, types
from events.privacy import encryption
from events.types import Command

SCOPE: Final = "ingest:write"

PREFIX: Final = "formease."
NAMESPACE: Final = uuid.UUID("6b1f5c1e-59a8-5d0c-9a55-0f2f4a1de9c4")
MAX_BATCH: Final = 1000

STRUCTURED: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"
JSON: Final = "application/json"


class Ingest(views.View):
    """The way in for CloudEvents."""

    parser_classes = [parsing.AnyJSONParser]
    operations = {
        "POST": openapi.Operation(
            id="ingest",
            summary="Take in CloudEvents",
            description=(
                "Structured, batch, or binary (attributes as `ce-…` headers). Idempotent on (`source`, `id`). A single "
                "event is answered like a command; a batch always with 200 and one verdict for each event."
            ),
            tag="commands",
            request={
                STRUCTURED: openapi.ref("CloudEvent"),
                BATCH: {"type": "array", "maxItems": MAX_BATCH, "items": openapi.ref("CloudEvent")},
                JSON: {"type": "object", "description": "Binary mode: the data alone."},
            },
            response={"anyOf": [openapi.ref("Applied"), openapi.ref("Batch")]},
            errors=(400, 401, 403, 404, 409, 410, 413, 415, 422, 429),
            scope=SCOPE,
        )
    }

    def post(self, request: Request) -> Response:
        views.only(request, ())
        kind = (request.content_type or "").partition(";")[0].strip().lower()
        if kind == BATCH:
            return Response({"results": take_batch(request, request.data)})
        if kind == STRUCTURED:
            event = read(command_view.as_object(request.data))
        elif "ce-specversion" in request.headers:
            event = read_binary(request, kind)
        else:
            raise exceptions.UnsupportedMediaType(kind or "none")
        return Response(command_view.shown(request, _send(request, command_of(request, event))))


# -- from the wire --------------------------------------------------------------------------------------------------


def read(given: Mapping[str, Any]) -> shapes.CloudEvent:
    """A structured event, its attributes checked; extensions we do not know are ignored, as the standard asks."""
    event = shapes.checked(shapes.CloudEvent, given, lenient=True)
    if event.datacontenttype is not msgspec.UNSET and not _is_json(event.datacontenttype):
        raise errors.InvalidCommand(fields={"datacontenttype": "Only JSON data is understood."})
    if event.data_base64 is msgspec.UNSET:
        return event
    if event.data is not msgspec.UNSET:
        raise errors.InvalidCommand(fields={"data_base64": "Send data or data_base64, not both."})
    return msgspec.structs.replace(event, data=_decoded(event.data_base64), data_base64=msgspec.UNSET)


def read_binary(request: Request, kind: str) -> shapes.CloudEvent:
    """An event whose attributes are headers, percent-encoded, and whose data is the body."""
    if not _is_json(kind):
        raise exceptions.UnsupportedMediaType(kind or "none")
    given: dict[str, Any] = {
        name.lower().removeprefix("ce-"): attribute(name, value)
        for name, value in request.headers.items()
        if name.lower().startswith("ce-")
    }
    strict_json.check(given)
    version = str(given.get("baseversion", ""))
    if version.isascii() and version.isdigit():
        given["baseversion"] = int(version[:20])
    return read({**given, "datacontenttype": kind, "data": command_view.as_object(request.data)})


QUOTED: Final = re.compile(r'"(?:[^"\\]|\\.)*"')


def attribute(name: str, value: str) -> str:
    """A header's value as an attribute: unquoted (RFC 9110, quoted strings), then percent-decoded once, as UTF-8.

    Raises 400 `invalid_header` for quotes without an end and for bytes that are not UTF-8.
    """
    text = value.strip()
    if text.startswith('"'):
        if not QUOTED.fullmatch(text):
            raise problems.malformed(f"{name}: the quotes do not match.", "invalid_header", parameter=name)
        text = re.sub(r"\\(.)", r"\1", text[1:-1])
    try:
        # Servers hand headers on as Latin-1: each character is the byte that was sent.
        return unquote_to_bytes(text.encode("latin-1")).decode("utf-8")
    except UnicodeError:
        raise problems.malformed(f"{name} is not UTF-8.", "invalid_header", parameter=name) from None


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == JSON or kind.endswith("+json")


def _decoded(text: str) -> types.JsonDict:
    try:
        value = parsing.loads(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        raise errors.InvalidCommand(fields={"data_base64": "This is not base64."}) from None
    if not isinstance(value, dict):
        raise errors.InvalidCommand(fields={"data_base64": "The data must be a JSON object."})
    return value


# -- to a command ---------------------------------------------------------------------------------------------------


def command_of(request: Request, event: shapes.CloudEvent) -> Command:
    """The command an event stands for. Raises what `commands.command_of` raises."""
    name = event.type.removeprefix(PREFIX)
    if name == event.type:
        raise errors.UnknownCommand(f"Event types here begin with {PREFIX!r}, unlike {event.type!r}.")
    kind = meanings().get(name, name)
    return command_view.command_of(
        request,
        id=command_id(event.source, event.id),
        type=kind,
        key=event.subject,
        data=_dated(kind, event),
        base_version=None if event.baseversion is msgspec.UNSET else event.baseversion,
        reason=_reason(event),
        scopes=[SCOPE] if _is_routine(kind) else [SCOPE, _scope_of(kind)],
    )


def meanings() -> dict[str, str]:
    """What happened at FormEase -> the command it stands for, as the kinds of record declare it.

    A command's own name (`formease.user.create`) is understood as well.
    """
    return {event: command for kind in section.kinds() for event, command in kind.ingested.items()}


def _is_routine(command: str) -> bool:
    """Is the scope `ingest:write` enough? Others (erasing people, settings) need the scope of the record as well."""
    kind = section.find(command.partition(".")[0])
    return kind is not None and command in kind.routine


def _scope_of(command: str) -> str:
    """The scope for writing the record that a command is about."""
    kind = section.find(command.partition(".")[0])
    return f"{kind.name if kind else '*'}:write"


def _reason(event: shapes.CloudEvent) -> str:
    """The event's own, else where it comes from and what it is."""
    given = "" if event.reason is msgspec.UNSET else event.reason.strip()
    return given or f"{event.source} {event.type}"[: encryption.MAX_REASON]


def _send(request: Request, command: Command) -> commands.Result:
    """Dispatch an event's command. Its id is ours, not the client's."""
    return command_view.send(request, command, derived=True)


def command_id(source: str, event_id: str) -> uuid.UUID:
    """The same id for the same event, from every sender and in every attempt. As JSON, so that no two pairs read alike.

    Anybody can work it out. So it is of version 5, and clients may not choose ids of that version: nobody can take an
    event's id before the event comes (`inbox.demand_chosen`).
    """
    return uuid.uuid5(NAMESPACE, json.dumps([source, event_id]))


def _dated(kind: str, event: shapes.CloudEvent) -> types.JsonDict:
    """The event's data; when it says nothing of its own, `time` is when the record came to be."""
    data = {} if event.data is msgspec.UNSET else dict(event.data)
    creates = kind.endswith((".create", ".receive"))
    if creates and event.time is not msgspec.UNSET:
        data.setdefault("created_at", event.time.isoformat())
    return data


# -- batches --------------------------------------------------------------------------------------------------------


def take_batch(request: Request, items: Any) -> list[dict[str, Any]]:
    """One verdict for each event, in the order sent.

    1  read each; what is malformed or not allowed is refused by itself
    2  carry the rest out as one set, in one transaction
    3  refused? then one by one, so that only the guilty are
    """
    if not isinstance(items, list):
        raise problems.malformed("A batch is a JSON array of events.")
    if len(items) > MAX_BATCH:
        raise problems.Problem(413, "too_large", f"A batch holds at most {MAX_BATCH} events.")
    throttling.demand_commands(request, len(items))
    read_in = [_attempt(partial(_understood, request, item)) for item in items]
    understood = [found for found in read_in if isinstance(found, Command)]
    results = _as_a_set(understood)
    if results is None:
        results = [_attempt(partial(_send, request, command)) for command in understood]
    verdicts = iter(results)
    answers = [next(verdicts) if isinstance(found, Command) else found for found in read_in]
    return [_verdict(request, item, answer) for item, answer in zip(items, answers, strict=True)]


def _understood(request: Request, item: Any) -> Command:
    return command_of(request, read(command_view.as_object(item)))


def _attempt(step: Callable[[], Any]) -> Any:
    """What a step returns, or the problem it ran into. Trouble of our own is nobody's fault: it ends the request."""
    try:
        return step()
    except (errors.EventsError, problems.Problem) as error:
        problem = problems.described(error)
        if problem is None or problem.status_code >= 500:
            raise
        return problem


def _as_a_set(wanted: Sequence[Command]) -> list[commands.Result] | None:
    if len({command.id for command in wanted}) != len(wanted):
        return None
    try:
        return commands.dispatch_many(wanted)
    except errors.EventsError as error:
        if error.status >= 500:
            raise
        return None


def _verdict(request: Request, item: Any, answer: Any) -> dict[str, Any]:
    named = {name: str(item.get(name, "")) if isinstance(item, dict) else "" for name in ("id", "source")}
    if isinstance(answer, problems.Problem):
        return {**named, "status": "rejected", "problem": problems.body(answer)}
    shown = command_view.shown(request, answer)
    return {**shown, "command_id": shown["id"], **named}
