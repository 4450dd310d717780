"""Writes the generated records into the database, through the same commands as the product.

A record and its whole history are one transaction, so an existing record is complete. A second run adds nothing, an
interrupted run continues where it stopped, and no record that a person changed since is touched, even after its
idempotency keys have been deleted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from django.db import models, transaction

from backoffice import preconditions
from backoffice.models import Form, Setting, Staff, Submission, User
from devtools.samples import generate
from devtools.samples.generate import Draft, World
from events import commands, context, store, types

CHUNK: Final = 1000
SOURCE: Final = {"actor": "command:seed_demo", "actor_name": "FormEase"}

TABLES: Final[Mapping[str, type[models.Model]]] = {"user": User, "form": Form, "submission": Submission}

Progress = Callable[[int], object]


def until(seed: int) -> datetime:
    """The end of the generated history: the start of the first run with this seed, so that all runs agree."""
    first = store.read_stream(types.stream_name("user", generate.key_of(f"{seed}/user/0")), limit=1)
    moment = first[0].recorded_at if first else datetime.now(UTC)
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def settings(staff: Mapping[str, Staff]) -> int:
    """Create the sample settings that are missing; returns the number of events."""
    drafts = list(generate.settings())
    known = _known(Setting, [draft.key for draft in drafts])
    return _write([draft for draft in drafts if draft.key not in known], staff)


def records(world: World, kind: str, staff: Mapping[str, Staff], progress: Progress) -> Counter[str]:
    """Create all records of a kind, calling `progress` with the size of each chunk; counts new records and events."""
    made: Counter[str] = Counter()
    for first in range(0, world.sizes[kind], CHUNK):
        chunk = range(first, min(first + CHUNK, world.sizes[kind]))
        keys = {number: world.key(kind, number) for number in chunk}
        known = _known(TABLES[kind], keys.values())
        fresh = [world.draft(kind, number) for number, key in keys.items() if key not in known]
        made += Counter({kind: len(fresh), "event": _write(fresh, staff)})
        progress(len(chunk))
    return made


def _known(table: type[models.Model], keys: Iterable[str]) -> set[str]:
    """The keys that already have a record, deleted records included."""
    return {str(key) for key in table._default_manager.filter(pk__in=list(keys)).values_list("pk", flat=True)}


def _write(drafts: Sequence[Draft], staff: Mapping[str, Staff]) -> int:
    """Write the drafts and their steps in one transaction; returns the number of events.

    The first steps of all drafts come before the second ones, because each person and reason needs its own context.
    """
    events = 0
    with (
        transaction.atomic(),
        preconditions.waived("archived"),
    ):  # forms received their answers before they were archived
        with context.acting(**SOURCE):
            events += _dispatch([draft.command(0) for draft in drafts])
        for number in range(1, max((len(draft.steps) for draft in drafts), default=0) + 1):
            for (role, reason), group in _by_role_and_reason(drafts, number).items():
                person = staff[role]
                with context.acting(actor=f"staff:{person.pk}", actor_name=person.get_username(), reason=reason):
                    events += _dispatch([draft.command(number) for draft in group])
    return events


def _by_role_and_reason(drafts: Sequence[Draft], number: int) -> dict[tuple[str, str], list[Draft]]:
    groups: dict[tuple[str, str], list[Draft]] = {}
    for draft in drafts:
        if len(draft.steps) >= number:
            step = draft.steps[number - 1]
            groups.setdefault((step.role, step.reason), []).append(draft)
    return groups


def _dispatch(batch: Sequence[types.Command]) -> int:
    return sum(len(result.events) for result in commands.dispatch_many(batch))
