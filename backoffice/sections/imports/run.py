"""Runs an import: `destination` checks a plan against the database, `carry_out` writes it.

The form is written first, then its submissions, a thousand in each transaction. Everything that the domain or the store
would refuse is found before the first write.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from contextvars import copy_context
from itertools import islice

import msgspec
from django.db import connection

from backoffice import preconditions
from backoffice.sections.imports import checks, content, destinations, identity, memory, rows, suppressions
from backoffice.sections.imports.destinations import Destination, form_id_of
from backoffice.sections.submissions import domain as submissions
from events import commands, context, snapshots
from events.privacy import encryption, pseudonyms
from events.types import Command, CommandData, command_type_of, stream_name

CHUNK = 1_000
WRITERS = 2


@memory.uncollected()
def destination(
    plan: rows.Plan, title: str, email: str, *, update: bool = False, archived: bool = False
) -> Destination:
    """Finds the destination of a plan and checks everything that would be written; writes nothing.

    `update`: correct rows that the form has with other content. `archived`: accept an archived form.
    Raises `destinations.ImportRejected`, and `checks.ValuesRejected` for values that cannot be stored.
    """
    found, state = destinations.find(plan, title, email, update=update, archived=archived)
    checks.check(found, plan, state)
    return found


def carry_out(
    plan: rows.Plan,
    found: Destination,
    description: str = "",
    progress: Callable[[int], object] = lambda _: None,
    *,
    source: str = "import",
    archived: bool = False,
) -> int:
    """Writes the rows that the form lacks; returns the number of added submissions. Each chunk is one transaction.

    source    the origin of the rows; with the command's type it is the reason of the events
    archived  write into the form even if it is archived

    Two chunks at a time: while the database stores one, the next is decided here.
    """
    added = 0
    acting = context.acting(actor=suppressions.ACTOR)
    accepted = preconditions.waived("archived") if archived else nullcontext()
    with memory.gc_frozen() as tidy, acting, accepted, ThreadPoolExecutor(WRITERS) as writers:
        key = _form(plan, found, description, source)
        chunks = _chunks(plan, found, key, source)

        def write(chunk: Sequence[Command]) -> Future[tuple[int, int]]:
            return writers.submit(copy_context().run, _write, chunk)

        running = {write(chunk) for chunk in islice(chunks, WRITERS)}
        while running:
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for done in finished:
                size, new = done.result()
                added += new
                tidy()
                progress(size)  # may raise KeyboardInterrupt: then no further chunk is started
                running |= {write(chunk) for chunk in islice(chunks, 1)}
    return added


def _chunks(plan: rows.Plan, found: Destination, key: pseudonyms.Pseudonyms, source: str) -> Iterator[list[Command]]:
    """Yields the commands in chunks: new rows, then corrections. A repeated import creates the same command ids."""
    reason = _reason(source, "submission.receive")
    for start in range(0, len(found.fresh), CHUNK):
        chunk = [(str(identity.id_of(key, one)), row) for one, row in found.fresh[start : start + CHUNK]]
        yield [
            Command(id=key.id(f"receive\x1f{at}"), key=at, data=content.received(found.form_id, row), reason=reason)
            for at, row in chunk
        ]
    fields = [made.field["id"] for made in plan.fields]
    for start in range(0, len(found.changed), CHUNK):
        yield [
            _change(key, stored.id, stored.version, content.corrected(stored, row, fields), source)
            for stored, row in found.changed[start : start + CHUNK]
        ]


def _change(key: pseudonyms.Pseudonyms, record: uuid.UUID, version: int, data: CommandData, source: str) -> Command:
    """Returns a command that changes this version to this content, with an id derived from both."""
    content = msgspec.json.encode(data, order="deterministic").decode()
    name = command_type_of(type(data)).name
    return Command(
        id=key.id(f"change\x1f{record}\x1f{version}\x1f{content}"),
        key=str(record),
        data=data,
        reason=_reason(source, name),
    )


def _reason(source: str, kind: str) -> str:
    """Returns source and command type; the source is truncated to the maximum length of a reason."""
    return f"{source[: encryption.MAX_REASON - len(kind) - 1]} {kind}"


def _write(chunk: Sequence[Command]) -> tuple[int, int]:
    """Writes one chunk in one transaction; returns the numbers of its commands and of added submissions."""
    try:
        results = commands.dispatch_many(chunk)
    finally:
        connection.close()  # returns the connection to the pool, because no request ends in this thread
    received = [isinstance(command.data, submissions.ReceiveSubmission) for command in chunk]
    return len(chunk), sum(r.status == "applied" and new for r, new in zip(results, received, strict=True))


def _form(plan: rows.Plan, found: Destination, description: str, source: str) -> pseudonyms.Pseudonyms:
    """Creates the form or adds its missing fields; returns the key of its submissions' ids."""
    if found.version == 0:
        found.form_id = form_id_of(pseudonyms.make(stream_name("user", found.owner_id)), found.title)
    subject = stream_name("form", found.form_id)
    state, version = snapshots.state(subject)
    change = content.form_change(plan, found, state, description)
    if change is not None and (found.version == 0 or found.fresh or found.changed):
        owner = pseudonyms.make(stream_name("user", found.owner_id))
        commands.dispatch(_change(owner, found.form_id, version, change, source))
    return pseudonyms.make(subject)
