"""`POST ingest/`: accepts CloudEvents 1.0 from FormEase and executes each as a command.

The CloudEvents HTTP binding has three modes: *structured* (`application/cloudevents+json`), *binary* (attributes as
`ce-…` headers, the data as body) and *batch* (`application/cloudevents-batch+json`). Ingestion is idempotent: the
command's id is derived from `source` and `id`.
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
    """Executes CloudEvents as commands."""

    parser_classes = [parsing.AnyJSONParser]
    operations = {
        "POST": openapi.Operation(
            id="ingest",
            summary="Send CloudEvents",
            description=(
                "Accepts structured, batch and binary mode (attributes as `ce-…` headers). Idempotent by (`source`, "
                "`id`). A single event is answered like a command, a batch always with 200 and one verdict for each "
                "event."
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
        views.allow_parameters(request, ())
        kind = (request.content_type or "").partition(";")[0].strip().lower()
        if kind == BATCH:
            return Response({"results": execute_batch(request, request.data)})
        if kind == STRUCTURED:
            event = read(command_view.as_object(request.data))
        elif "ce-specversion" in request.headers:
            event = read_binary(request, kind)
        else:
            raise exceptions.UnsupportedMediaType(kind or "none")
        return Response(command_view.shown(request, _send(request, command_of(request, event))))


# -- parsing ----------------------------------------------------------------------------------------------------------


def read(given: Mapping[str, Any]) -> shapes.CloudEvent:
    """Parses a structured event and checks its attributes; ignores unknown extensions, as the standard asks."""
    event = shapes.checked(shapes.CloudEvent, given, lenient=True)
    if event.datacontenttype is not msgspec.UNSET and not _is_json(event.datacontenttype):
        raise errors.InvalidCommand(fields={"datacontenttype": "Only JSON data is understood."})
    if event.data_base64 is msgspec.UNSET:
        return event
    if event.data is not msgspec.UNSET:
        raise errors.InvalidCommand(fields={"data_base64": "Send data or data_base64, not both."})
    return msgspec.structs.replace(event, data=_decoded(event.data_base64), data_base64=msgspec.UNSET)


def read_binary(request: Request, kind: str) -> shapes.CloudEvent:
    """Parses an event whose attributes are percent-encoded headers and whose data is the body."""
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
    """Decodes a header's value: unquoted (RFC 9110, quoted strings), then percent-decoded once, as UTF-8.

    Raises 400 `invalid_header` for unterminated quotes and for bytes that are not UTF-8.
    """
    text = value.strip()
    if text.startswith('"'):
        if not QUOTED.fullmatch(text):
            raise problems.malformed(f"{name}: the quotes do not match.", "invalid_header", parameter=name)
        text = re.sub(r"\\(.)", r"\1", text[1:-1])
    try:
        # Servers pass headers as Latin-1: each character is one byte as sent.
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
    """Builds the command for an event. Raises the errors of `commands.command_of`."""
    name = event.type.removeprefix(PREFIX)
    if name == event.type:
        raise errors.UnknownCommand(f"Event types here begin with {PREFIX!r}, unlike {event.type!r}.")
    kind = commands_by_type().get(name, name)
    return command_view.command_of(
        request,
        id=command_id(event.source, event.id),
        type=kind,
        key=event.subject,
        data=_with_creation_time(kind, event),
        base_version=None if event.baseversion is msgspec.UNSET else event.baseversion,
        reason=_reason(event),
        scopes=[SCOPE] if _is_routine(kind) else [SCOPE, _scope_of(kind)],
    )


def commands_by_type() -> dict[str, str]:
    """Maps CloudEvents types to commands, as the kinds of record declare them.

    A command's own name (`formease.user.create`) is accepted as well.
    """
    return {event: command for kind in section.kinds() for event, command in kind.ingested.items()}


def _is_routine(command: str) -> bool:
    """Returns whether the scope `ingest:write` suffices. Erasures and settings also need the scope of the record."""
    kind = section.find(command.partition(".")[0])
    return kind is not None and command in kind.routine


def _scope_of(command: str) -> str:
    """Returns the scope for writing the record of a command."""
    kind = section.find(command.partition(".")[0])
    return f"{kind.name if kind else '*'}:write"


def _reason(event: shapes.CloudEvent) -> str:
    """Returns the event's own reason, or one made from its source and type."""
    given = "" if event.reason is msgspec.UNSET else event.reason.strip()
    return given or f"{event.source} {event.type}"[: encryption.MAX_REASON]


def _send(request: Request, command: Command) -> commands.Result:
    """Dispatches an event's command, whose id is derived and not chosen by the client."""
    return command_view.send(request, command, derived=True)


def command_id(source: str, event_id: str) -> uuid.UUID:
    """Derives the command id from `source` and `id`, so that each attempt to send an event has the same id.

    The input is JSON, so that two different pairs never give the same text. Other clients can compute the id too, so
    it is a UUID of version 5, which clients may not choose (`commands.demand_chosen`): otherwise a client could use an
    event's id before the event arrives.
    """
    return uuid.uuid5(NAMESPACE, json.dumps([source, event_id]))


def _with_creation_time(kind: str, event: shapes.CloudEvent) -> types.JsonDict:
    """Returns the event's data; without a creation time in it, `time` becomes the creation time of the record."""
    data = {} if event.data is msgspec.UNSET else dict(event.data)
    creates = kind.endswith((".create", ".receive"))
    if creates and event.time is not msgspec.UNSET:
        data.setdefault("created_at", event.time.isoformat())
    return data


# -- batches --------------------------------------------------------------------------------------------------------


def execute_batch(request: Request, items: Any) -> list[dict[str, Any]]:
    """Returns one verdict for each event, in the order sent.

    1  parse each; reject the malformed and forbidden ones individually
    2  execute the others as one set, in one transaction
    3  if that is refused, execute them one by one, so that only the failing ones are refused
    """
    if not isinstance(items, list):
        raise problems.malformed("A batch is a JSON array of events.")
    if len(items) > MAX_BATCH:
        raise problems.Problem(413, "too_large", f"A batch holds at most {MAX_BATCH} events.")
    throttling.demand_commands(request, len(items))
    read_in = [_attempt(partial(_parsed, request, item)) for item in items]
    understood = [found for found in read_in if isinstance(found, Command)]
    results = _as_one_set(understood)
    if results is None:
        results = [_attempt(partial(_send, request, command)) for command in understood]
    verdicts = iter(results)
    answers = [next(verdicts) if isinstance(found, Command) else found for found in read_in]
    return [_verdict(request, item, answer) for item, answer in zip(items, answers, strict=True)]


def _parsed(request: Request, item: Any) -> Command:
    return command_of(request, read(command_view.as_object(item)))


def _attempt(step: Callable[[], Any]) -> Any:
    """Calls a step and returns its result or its problem. Errors of the server itself propagate and end the request."""
    try:
        return step()
    except (errors.EventsError, problems.Problem) as error:
        problem = problems.described(error)
        if problem is None or problem.status_code >= 500:
            raise
        return problem


def _as_one_set(wanted: Sequence[Command]) -> list[commands.Result] | None:
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
