"""`Plan` -> events. The form, if it is not there yet, then its submissions, a thousand to a transaction.

Ids are UUID version 5 of owner, title and row identity: importing a file again, a renamed, reordered or extended one,
adds only what is not there. A submission that staff deleted stays deleted; one whose row changed stays as received.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from contextvars import copy_context
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from django.db import connection

from backoffice import preconditions
from backoffice.domain import forms, submissions, values
from backoffice.imports import infer, memory, rows
from backoffice.models import User
from events import arrays, commands, context, snapshots, store
from events.types import Command, named_id, stream_name

NAMESPACE = uuid.UUID("7d0f0e5e-8a0b-5c1f-9b55-3c2f6f1b7a52")
CHUNK = 1_000
MAX_REASON = 200
WRITERS = 2
_SHAPES = {"multiple_choice": "list", "matrix": "rows", "ranking": "rows"}
_TEXTS = {"text", "long_text", "single_choice", "email", "url", "phone"}


class ImportRejected(Exception):
    """The file is fine, but it cannot go into this form or to this owner."""


@dataclass(slots=True)
class Destination:
    """Where a plan's rows go: the form as it is now, and which rows it lacks."""

    form_id: uuid.UUID
    owner_id: uuid.UUID
    title: str
    version: int
    fresh: list[tuple[uuid.UUID, rows.Row]]
    known: int
    new_fields: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@memory.uncollected()
def destination(plan: rows.Plan, title: str, email: str, *, archived: bool = False) -> Destination:
    """Look up owner, form and rows; nothing is written. Raises `ImportRejected`.

    `archived` accepts a form that is archived.
    """
    title = values.normal_name(title)
    if not 0 < len(title) <= 300:
        raise ImportRejected("the title must have 1 to 300 characters")
    owner = User.living_with(email).first()
    if owner is None:
        raise ImportRejected(f"there is no user with the email address {email}; create the owner first")
    form_id = named_id(NAMESPACE, f"form\x1f{owner.pk}\x1f{title}")
    identified = [(named_id(form_id, row.identity), row) for row in plan.rows]
    there = _existing([stream_name("submission", key) for key, _ in identified])
    fresh = [(key, row) for key, row in identified if stream_name("submission", key) not in there]
    found = Destination(form_id, owner.pk, title, 0, fresh, len(identified) - len(fresh))
    _compare(found, plan.fields, archived=archived)
    return found


EXISTING = "select stream from events_stream where stream = any(%s)"


def _existing(streams: Sequence[str]) -> set[str]:
    return {stream for (stream,) in store.query(EXISTING, (arrays.Texts(streams),))}


def _compare(found: Destination, fields: Sequence[infer.FieldPlan], *, archived: bool) -> None:
    """Settle what to do where the form is there already: staff's edits stay, fields that are wholly new are added.

    A field that the form once had is missing because somebody removed it: then the import is refused, as it is where
    answers would have another shape than the form's field.
    """
    stream = stream_name("form", found.form_id)
    state, found.version = snapshots.state(stream)
    wanted = [made.field for made in fields]
    if found.version == 0:
        forms.checked_fields(wanted)
        return
    if state.deleted_at is not None:
        raise ImportRejected(f"the form “{found.title}” was deleted; restore it or choose another title")
    if state.archived and found.fresh and not archived:
        raise ImportRejected(
            f"the form “{found.title}” is archived; add --archived to import its old submissions all the same"
        )
    have = {made["id"]: made for made in state.fields}
    ever = {made["id"] for event in store.read_stream(stream) for made in event.data.get("fields", ())}
    removed = [made["label"] for made in wanted if made["id"] in ever and made["id"] not in have]
    if removed:
        raise ImportRejected(
            f"the form “{found.title}” no longer has: {_listed(removed)}; put back or import elsewhere"
        )
    _compare_types(found, [(have[made["id"]], made) for made in wanted if made["id"] in have])
    found.new_fields = [made for made in wanted if made["id"] not in have]
    forms.checked_fields([*state.fields, *found.new_fields])


def _compare_types(found: Destination, pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    unlike = [made["label"] for ours, made in pairs if _shape(ours) != _shape(made)]
    if unlike:
        raise ImportRejected(
            f"answers in the file have another shape than in the form “{found.title}”: {_listed(unlike)}"
        )
    for ours, made in pairs:
        if ours["type"] != made["type"] and not {ours["type"], made["type"]} <= _TEXTS:
            found.warnings.append(f"“{made['label']}” is {ours['type']} in the form and {made['type']} in the file")
        strange = [option for option in made["options"] if option not in (ours.get("options") or made["options"])]
        if strange:
            found.warnings.append(f"“{made['label']}” has options that the form lacks: {_listed(strange)}")


def _shape(made: dict[str, Any]) -> str:
    return _SHAPES.get(made["type"], "value")


def _listed(labels: Sequence[Any]) -> str:
    more = f" and {len(labels) - 10} more" if len(labels) > 10 else ""
    return ", ".join(f"“{label}”" for label in labels[:10]) + more


def carry_out(
    plan: rows.Plan,
    found: Destination,
    description: str = "",
    progress: Callable[[int], object] = lambda _: None,
    *,
    source: str = "import",
    archived: bool = False,
) -> int:
    """Write what the destination lacks; returns how many submissions were added. Each chunk is one transaction.

    source    where the rows come from; with the type of command it is the reason of what is written
    archived  write into the form even if it is archived

    Two at a time: while the database stores one chunk, the next is decided here.
    """
    added = 0
    starts = iter(range(0, len(found.fresh), CHUNK))
    acting = context.acting(actor="command:import_submissions")
    accepted = preconditions.waived("archived") if archived else nullcontext()
    with memory.set_aside() as tidy, acting, accepted, ThreadPoolExecutor(WRITERS) as writers:
        _form(plan, found, description, source)

        def write(start: int) -> Future[tuple[int, int]]:
            chunk = found.fresh[start : start + CHUNK]
            return writers.submit(
                copy_context().run, _write, found.form_id, chunk, _reason(source, "submission.receive")
            )

        under_way = {write(start) for start in islice(starts, WRITERS)}
        while under_way:
            finished, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for chunk in finished:
                size, new = chunk.result()
                added += new
                tidy()
                progress(size)  # may interrupt us: then no further chunk is begun
                under_way |= {write(start) for start in islice(starts, 1)}
    return added


def _reason(source: str, kind: str) -> str:
    """The source gives way where both are too long for a reason."""
    return f"{source[: MAX_REASON - len(kind) - 1]} {kind}"


def _write(form_id: uuid.UUID, chunk: Sequence[tuple[uuid.UUID, rows.Row]], reason: str) -> tuple[int, int]:
    """One chunk in one transaction; how many rows it had, and how many of them were new."""
    try:
        with context.acting(reason=reason):
            results = commands.dispatch_many([_received(form_id, key, row) for key, row in chunk])
    finally:
        connection.close()  # back to the pool: this thread has no request whose end would see to it
    return len(chunk), sum(1 for result in results if result.status == "applied")


def _form(plan: rows.Plan, found: Destination, description: str, source: str) -> None:
    key = str(found.form_id)
    if found.version == 0:
        fields = [made.field for made in plan.fields]
        data = forms.CreateForm(user_id=found.owner_id, title=found.title, description=description, fields=fields)
        reason = _reason(source, "form.create")
        commands.dispatch(Command(id=named_id(found.form_id, "create"), key=key, data=data, reason=reason))
    elif found.new_fields and found.fresh:
        state, version = snapshots.state(stream_name("form", key))
        update = forms.UpdateForm(fields=[*state.fields, *found.new_fields])
        ids = "\x1f".join(made["id"] for made in found.new_fields)
        reason = _reason(source, "form.update")
        change = Command(id=named_id(found.form_id, f"add\x1f{version}\x1f{ids}"), key=key, data=update, reason=reason)
        commands.dispatch(change)


def _received(form_id: uuid.UUID, key: uuid.UUID, row: rows.Row) -> Command:
    data = submissions.ReceiveSubmission(
        form_id=form_id,
        answers=row.answers,
        started_at=row.started_at,
        completion_time=row.completion_time,
        created_at=row.created_at,
    )
    return Command(id=named_id(key, "receive"), key=str(key), data=data)
