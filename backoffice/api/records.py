"""Reading users, forms, submissions and settings, in lists and one by one, and changing one that was read.

A row is fetched with the caller's columns only: what a role may not see never leaves the database.
"""

from __future__ import annotations

import dataclasses
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from django.db import connection
from django.db.models import Model
from django.http import Http404
from rest_framework.request import Request
from rest_framework.response import Response

from backoffice import access, listing, models
from backoffice.api import commands as command_view
from backoffice.api import permissions, problems, views
from events import errors, store, types

ETAG = re.compile(r'(?:W/)?"v([0-9]{1,18})"')
LIST_PARAMETERS: Final = ("search", "sort", "limit", "cursor", "consistent")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resource:
    """One kind of record as the API shows it. `update` and `delete` are the commands that PATCH and DELETE send."""

    name: str
    category: str
    model: type[Model]
    shape: str
    columns: tuple[str, ...]
    delete: str
    update: str | None = None
    key: str = "id"

    @property
    def spec(self) -> listing.Spec:
        return dataclasses.replace(listing.SPECS[self.name], related=())

    def visible(self, request: Request) -> tuple[str, ...]:
        hidden = access.hidden_fields(request.user, self.category)
        return tuple(column for column in self.columns if column not in hidden)


USERS = Resource(
    name="users",
    category="user",
    model=models.User,
    shape="User",
    columns=(
        *("id", "version", "email", "first_name", "last_name", "plan", "role"),
        *("last_login", "created_at", "updated_at", "deleted_at", "erased_at"),
    ),
    update="user.update",
    delete="user.delete",
)
FORMS = Resource(
    name="forms",
    category="form",
    model=models.Form,
    shape="Form",
    columns=(
        *("id", "version", "user_id", "title", "description", "fields", "archived"),
        *("created_at", "updated_at", "deleted_at", "erased_at"),
    ),
    update="form.update",
    delete="form.delete",
)
SUBMISSIONS = Resource(
    name="submissions",
    category="submission",
    model=models.Submission,
    shape="Submission",
    columns=(
        *("id", "version", "form_id", "answers", "started_at", "completion_time"),
        *("created_at", "updated_at", "deleted_at"),
    ),
    delete="submission.delete",
)
SETTINGS = Resource(
    name="settings",
    category="setting",
    model=models.Setting,
    shape="Setting",
    columns=("key", "version", "value", "updated_at"),
    update="setting.set",
    delete="setting.remove",
    key="key",
)


# -- lists ----------------------------------------------------------------------------------------------------------


class RecordList(views.View):
    """A list, a page at a time."""

    resource: ClassVar[Resource]

    def get(self, request: Request) -> Response:
        resource = self.resource
        permissions.require_view(request, resource.category)
        page = _page(request, resource)
        items = [row(item, resource.visible(request)) for item in page.items]
        if resource is USERS:
            add_counts(items)
        return Response({"items": items, "page_info": page_info(page)})


def _page(request: Request, resource: Resource) -> listing.Page:
    """The page asked for; an unknown filter or sort is named, with those that are known to this caller."""
    spec, asked = resource.spec, request.query_params
    hidden = access.hidden_fields(request.user, resource.category)
    filters = [name for name in spec.filters if name not in hidden]
    sorts = [name for name in spec.sorts if name not in hidden]
    views.only(request, [*LIST_PARAMETERS, *filters])
    sort = asked.get("sort") or spec.default_sort
    if sort.removeprefix("-") not in sorts:
        detail = f"{resource.name} cannot be sorted by {sort!r}; known: {', '.join(sorts)}."
        raise problems.malformed(detail, listing.UnknownSort.code, parameter="sort", allowed=sorts)
    return listing.page(
        spec,
        sort=sort,
        cursor=asked.get("cursor") or None,
        limit=views.integer(request, "limit", listing.LIMIT, least=1, most=listing.MAX_LIMIT),
        filters={name: asked[name] for name in filters if asked.get(name, "") != ""},
        search=asked.get("search", ""),
        hidden=hidden,
        queryset=resource.model._default_manager.only(*resource.visible(request)),
    )


def row(item: Model, columns: Sequence[str]) -> dict[str, Any]:
    return {column: getattr(item, column) for column in columns}


def page_info(page: listing.Page) -> dict[str, Any]:
    return {
        "has_next_page": page.has_next,
        "has_previous_page": page.has_previous,
        "next_cursor": page.next_cursor,
        "previous_cursor": page.previous_cursor,
        "total_count": page.total_count,
        "total_is_exact": page.total_is_exact,
    }


COUNTS = """
select f.user_id, count(*), sum(answered.number)::bigint, sum(answered.recent)::bigint
  from forms f cross join lateral (
       select count(*) as number, count(*) filter (where s.created_at >= now() - interval '30 days') as recent
         from submissions s where s.form_id = f.id and s.deleted_at is null) answered
 where f.user_id = any(%s) and f.deleted_at is null group by f.user_id
"""


def add_counts(users: Sequence[dict[str, Any]]) -> None:
    """Forms and submissions of the users on one page: one statement for all of them."""
    with connection.cursor() as cursor:
        cursor.execute(COUNTS, [[user["id"] for user in users]])
        found = {owner: counts for owner, *counts in cursor.fetchall()}
    for user in users:
        names = ("form_count", "submission_count", "recent_submissions")
        user |= dict(zip(names, found.get(user["id"], (0, 0, 0)), strict=True))


# -- one record -----------------------------------------------------------------------------------------------------


class Record(views.View):
    """One record, with its version as ETag."""

    resource: ClassVar[Resource]

    def get(self, request: Request, key: str) -> Response:
        permissions.require_view(request, self.resource.category)
        views.only(request, ("consistent",))
        columns = self.resource.visible(request)
        found = self.resource.model._default_manager.only(*columns).filter(pk=self._key(key)).first()
        if found is None:
            raise Http404
        shown = row(found, columns)
        headers = {"ETag": etag(shown["version"])}
        if _matches(request.headers.get("If-None-Match", ""), shown["version"]):
            return Response(status=304, headers=headers)
        return Response(shown, headers=headers)

    def delete(self, request: Request, key: str) -> Response:
        return self._write(request, key, self.resource.delete, {})

    def _key(self, key: str) -> str:
        try:
            return command_view.checked_key(self.resource.category, key)
        except errors.InvalidCommand:
            raise Http404 from None

    def _write(self, request: Request, key: str, command: str, data: Mapping[str, Any]) -> Response:
        """Send a command based on the version of `If-Match`; what cannot be merged into the version of now is 412."""
        views.only(request, ("reason",))
        asked = command_view.command_of(
            request,
            id=_idempotency_key(request),
            type=command,
            key=self._key(key),
            data=data,
            reason=views.reason(request),
        )
        stream = types.stream_name(self.resource.category, asked.key)
        base = _if_match(request, stream)
        try:
            result = command_view.send(request, _based(asked, base))
        except errors.Conflict as conflict:
            raise _stale(conflict) from conflict
        return Response(command_view.shown(request, result), headers={"ETag": etag(result.version)})


class EditableRecord(Record):
    """One record that can also be changed field by field."""

    def patch(self, request: Request, key: str) -> Response:
        assert self.resource.update is not None
        return self._write(request, key, self.resource.update, command_view.as_object(request.data))


def etag(version: int) -> str:
    return f'"v{version}"'


def _matches(header: str, version: int) -> bool:
    return header.strip() == "*" or str(version) in ETAG.findall(header)


def _based(command: types.Command, base: int | None) -> types.Command:
    return types.Command(id=command.id, key=command.key, data=command.data, base_version=base, reason=command.reason)


def _idempotency_key(request: Request) -> uuid.UUID:
    """The `Idempotency-Key` header, else a new one: without it a repeated request is a new one."""
    name = "Idempotency-Key"
    text = request.headers.get(name)
    if text is None:
        return types.new_id()
    try:
        return uuid.UUID(text.strip('"'))  # one of a version that is ours is refused with the command
    except ValueError:
        raise problems.malformed("Idempotency-Key must be a UUID.", "invalid_header", parameter=name) from None


def _if_match(request: Request, stream: str) -> int | None:
    """The version the caller read; None for ``*`` (whatever it is). 428 without the header, 404 without the record."""
    header = request.headers.get("If-Match", "").strip()
    if not header:
        detail = (
            'Send If-Match with the ETag of the version you read, such as "v3": nobody is to be overwritten unseen.'
        )
        raise problems.Problem(428, "precondition_required", detail)
    current = store.version_of(stream)
    if current == 0:
        raise Http404
    if header == "*":
        return None
    found = ETAG.fullmatch(header)
    if found is None or not 1 <= int(found[1]) <= current:
        raise _precondition_failed(current)
    return int(found[1])


def _stale(conflict: errors.Conflict) -> problems.Problem:
    names = ("base_version", "version", "base", "theirs", "mine", "fields", "conflicts", "conflict_id")
    return _precondition_failed(conflict.version, **{name: getattr(conflict, name) for name in names})


def _precondition_failed(current: int, **extra: Any) -> problems.Problem:
    detail = f"The record is at version {current} and your change cannot be merged into it."
    return problems.Problem(412, "precondition_failed", detail, headers={"ETag": etag(current)}, **extra)
