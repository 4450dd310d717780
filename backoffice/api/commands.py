"""`POST commands/`: one write. Every API operation that changes a record goes through `send`."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from rest_framework.request import Request
from rest_framework.response import Response

from backoffice import access, section
from backoffice import commands as entry_point
from backoffice.api import openapi, permissions, problems, shapes, views
from events import commands, errors, types
from events.types import Command

PATH_START = re.compile(r"[.\[]")


class Commands(views.View):
    """Executes one command."""

    operations = {
        "POST": openapi.Operation(
            id="send_command",
            summary="Execute a command",
            description="Repeating a command with the same `id` returns the first answer with status `duplicate`.",
            tag="commands",
            request={"application/json": openapi.ref("Command")},
            response=openapi.ref("Applied"),
            errors=(400, 401, 403, 404, 409, 410, 413, 415, 422, 429),
            merges=True,
            scope="users:write (or of the record the command is about)",
        )
    }

    def post(self, request: Request) -> Response:
        views.allow_parameters(request, ())
        envelope = shapes.checked(shapes.Envelope, as_object(request.data))
        command = command_of(
            request,
            id=envelope.id,
            type=envelope.type,
            key=envelope.key,
            data=envelope.data,
            base_version=envelope.base_version,
            reason=envelope.reason,
        )
        return Response(shown(request, send(request, command)))


def as_object(data: Any) -> Mapping[str, Any]:
    if not isinstance(data, dict):
        raise problems.malformed("The body must be a JSON object.")
    return data


def command_of(
    request: Request,
    *,
    id: uuid.UUID,
    type: str,
    key: str,
    data: Mapping[str, Any],
    base_version: int | None = None,
    reason: str | None = None,
    scopes: Sequence[str] = (),
) -> Command:
    """Builds the caller's command after checking that they may send it.

    1  known?      400
    2  allowed?    403, before the data is read; all of `scopes` are needed, by default the scope of the record
    3  well-formed 422, one message per field
    4  its fields? 403 naming the field that this role may not change
    """
    known = types.command_type_of(type)
    category, _, action = type.partition(".")
    kind = section.find(category)
    if kind is None:  # conflicts and other records of the backoffice itself, which have endpoints of their own
        raise errors.UnknownCommand(f"No command {type!r} is sent this way.")
    for scope in scopes or [f"{kind.name}:write"]:
        permissions.require_scope(request, scope)
    if not access.may(request.user, action, category):
        raise problems.forbidden(type)
    command = Command(
        id=id,
        key=kind.key(key),
        data=shapes.checked(known.cls, data),
        base_version=base_version,
        reason=reason,
    )
    if missing := access.may_command(request.user, command):
        raise problems.forbidden(missing)
    entry_point.demand_reason(command)
    return command


def send(request: Request, command: Command, *, derived: bool = False) -> commands.Result:
    """Dispatches a command; files a conflict and raises it without the fields that the caller may not see.

    `derived`: the command's id was not chosen by the client.
    """
    return entry_point.dispatch(command, request.user, derived=derived)


def _visible(request: Request, category: str, path: str) -> bool:
    return PATH_START.split(path)[0] not in access.hidden_fields(request.user, category)


def shown(request: Request, result: commands.Result) -> dict[str, Any]:
    """Returns the response as JSON, without merge notes about fields that the caller may not see."""
    answer: dict[str, Any] = msgspec.to_builtins(result)
    if "merged" in answer:
        category = types.category_of(result.stream)
        answer["merged"] = [note for note in answer["merged"] if _visible(request, category, note["path"])]
    return answer
