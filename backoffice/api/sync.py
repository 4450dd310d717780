"""`POST sync/`: what was queued without a network, carried out in order, each command exactly once.

A *chain* is several queued edits of one record. The second was not made on any version of the store but on what its
author saw: the last version they had from the server (the *trunk*) with their own first edit on it. So that state is
rebuilt here and taken as its base: one's own earlier edit is no foreign change, and a foreign one is seen as such,
wherever in the chain it came between. docs/conflicts.md tells it with an example.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from backoffice import commands as entry_point
from backoffice.api import commands as command_view
from backoffice.api import openapi, problems, shapes, throttling, views
from events import aggregate, commands, conflicts, errors, reconcile, snapshots, types
from events.types import Command

MAX_MUTATIONS: Final = 200
TOO_OLD: Final = timedelta(days=7)


class Sync(views.View):
    """The way in for an offline queue."""

    operations = {
        "POST": openapi.Operation(
            id="sync",
            summary="Carry out what was queued offline",
            description=(
                "In `seq` order, each exactly once, one transaction each; always 200, one verdict for each. A refused "
                "command blocks later ones of its record (`blocked_by`), nothing else. Edits upon edits: send the "
                "whole chain, acknowledged ones too, until its last has its verdict. What was queued more than seven "
                "days ago (`sent_at` - `queued_at`) is filed for review. A request that failed (5xx) may be sent again "
                "as it is."
            ),
            tag="commands",
            request={openapi.JSON: openapi.ref("Queue")},
            response=openapi.ref("SyncAnswer"),
            errors=(400, 401, 403, 413, 415, 422, 429),
            scope="users:write (or of the record each command is about)",
        )
    }

    def post(self, request: Request) -> Response:
        views.only(request, ())
        queue = shapes.checked(shapes.Queue, command_view.as_object(request.data))
        if queue.person is not None and queue.person != request.user.pk:
            raise problems.forbidden("sync", "other_person", "Somebody else queued this; they have to be signed in.")
        if len(queue.mutations) > MAX_MUTATIONS:
            raise problems.Problem(413, "too_large", f"A queue is sent in pieces of at most {MAX_MUTATIONS} commands.")
        throttling.demand_commands(request, len(queue.mutations))
        flush = Flush(request, queue.client_id, queue.sent_at)
        return Response({"results": flush.run(in_order(queue.mutations))})


def in_order(mutations: Sequence[Mapping[str, Any]]) -> list[tuple[int, Mapping[str, Any]]]:
    """The queue by `seq`. Raises 422 when a `seq` is missing or there twice: then there is no order."""
    numbered: dict[int, Mapping[str, Any]] = {}
    for place, given in enumerate(mutations):
        seq = given.get("seq")
        if not isinstance(seq, int) or isinstance(seq, bool) or seq < 0:
            raise errors.InvalidCommand(fields={f"mutations[{place}].seq": "A whole number is needed."})
        if seq in numbered:
            raise errors.InvalidCommand(fields={f"mutations[{place}].seq": f"{seq} is there twice."})
        numbered[seq] = given
    return sorted(numbered.items())


@dataclass
class Chain:
    """What the author of a record's queued edits saw so far: `seen`, over version `trunk` of the store; `length` edits
    of their own. `seen` is None where nothing of it is known (an edit without a base)."""

    trunk: int
    seen: Any
    length: int = 1

    def covers(self, base_version: int, trunk_version: int | None) -> bool:
        """Was an edit made on this chain, or on a newer version from the server? Without `trunk_version` the base says:
        the author counted their own edits onto the trunk."""
        if trunk_version is not None:
            return trunk_version == self.trunk
        return self.trunk <= base_version <= self.trunk + self.length


@dataclass
class Flush:
    """One request's way through the queue."""

    request: Request
    client_id: str
    sent_at: datetime | None = None  # by the clock of the device, which may be anything
    received_at: datetime = field(default_factory=timezone.now)
    chains: dict[str, Chain] = field(default_factory=dict)
    blocked: dict[str, int] = field(default_factory=dict)
    later: Counter[str] = field(default_factory=Counter)

    def run(self, queue: Sequence[tuple[int, Mapping[str, Any]]]) -> list[dict[str, Any]]:
        self.later = Counter(_named(given) for _, given in queue)
        results = []
        for seq, given in queue:
            self.later[_named(given)] -= 1
            results.append({"seq": seq, **self.one(seq, given)})
        return results

    def one(self, seq: int, given: Mapping[str, Any]) -> dict[str, Any]:
        """The verdict on one.

        1  blocked by an earlier one of its record?  2  well-formed and allowed?  3  the state its author saw
        4  answered before?  5  too old? to a person  6  carried out: merged, or a conflict in the inbox
        7  what its author saw afterwards
        """
        name = _named(given)
        if name in self.blocked:
            return {"id": given.get("id"), **_blocked(self.blocked[name])}
        try:
            mutation, command = self._understood(given)
            trunk, seen = self._base(name, command, mutation)
            result = self._answered(mutation, command, trunk, seen, seq)
        except errors.Conflict as conflict:
            self._extend(name, command, trunk, seen, None)
            return {"id": command.id, "status": "conflict", **_told(conflict)}
        except (errors.EventsError, problems.Problem) as error:
            self.blocked[name] = seq
            return {"id": given.get("id"), "status": "rejected", **_told(error)}
        self._extend(name, command, trunk, seen, result)
        return command_view.shown(self.request, result)

    def _understood(self, given: Mapping[str, Any]) -> tuple[shapes.Mutation, Command]:
        mutation = shapes.checked(shapes.Mutation, given)
        entry_point.demand_chosen(mutation.id)
        command = command_view.command_of(
            self.request,
            id=mutation.id,
            type=mutation.type,
            key=mutation.key,
            data=mutation.data,
            base_version=mutation.base_version,
            reason=mutation.reason,
        )
        return mutation, command

    # -- what its author saw

    def _base(self, name: str, command: Command, mutation: shapes.Mutation) -> tuple[int, Any]:
        """The trunk, and the state over it that the command was decided on; None for the trunk itself."""
        base, trunk = command.base_version, mutation.trunk_version
        chain = self.chains.get(name)
        if base is None or chain is None or chain.seen is None:
            if base is not None and trunk is not None and trunk < base:  # its elders are not in this queue
                return trunk, _state(command, trunk)
            return base or 0, None
        if not chain.covers(base, trunk):
            self._rebase(chain, command, base if trunk is None else trunk)
        return chain.trunk, chain.seen

    def _rebase(self, chain: Chain, command: Command, trunk: int) -> None:
        """The author had news from the server under their queued edits: what they saw then is both, merged."""
        record = aggregate.of_command(type(command.data))
        old, new = (record.dump(_state(command, version)) for version in (chain.trunk, trunk))
        merged = conflicts.merge(old, new, record.dump(chain.seen), record.policies, record.groups, record.checks)
        try:
            full = conflicts.resolve(merged, {place.path: "mine" for place in merged.conflicts})
            chain.seen = record.load(full)
        except (errors.InvalidCommand, msgspec.ValidationError):
            chain.seen = record.load(new)
        chain.trunk, chain.length = trunk, 0

    def _extend(self, name: str, command: Command, trunk: int, seen: Any, result: commands.Result | None) -> None:
        """After a verdict: what the author saw next. Only where there is a next."""
        if not self.later[name]:
            return
        chain = self.chains.setdefault(name, Chain(trunk, None, 0))
        chain.length += 1
        stored = result is not None and result.events and not result.merged
        if result is not None and stored and (command.base_version or result.version == len(result.events)):
            # Nothing of anybody else's came in: the store has just what they saw, to the times in it.
            chain.seen = snapshots.state(result.stream, result.version)[0]
        elif command.base_version is not None:
            record = aggregate.of_command(type(command.data))
            before = snapshots.state(_stream(command), trunk)[0] if seen is None else seen
            chain.seen = reconcile.applied_alone(command, record, before)

    # -- the verdict

    def _age(self, mutation: shapes.Mutation) -> timedelta | None:
        """How long ago it was queued: the difference of two readings of the device's clock, which need not be right.

        Without the second one, ours stands in for it. A clock that was put back in between makes an edit new.
        """
        if mutation.queued_at is None:
            return None
        return max((self.sent_at or self.received_at) - mutation.queued_at, timedelta())

    def _answered(
        self, mutation: shapes.Mutation, command: Command, trunk: int, seen: Any, seq: int
    ) -> commands.Result:
        age = self._age(mutation)
        queued_at = None if age is None else (self.received_at - age).isoformat()
        source = {"client_id": self.client_id, "seq": seq, "queued_at": queued_at}
        if age is not None and age > TOO_OLD:
            return entry_point.dispatch_overdue(
                command, self.request.user, seen=seen, base_version=trunk, source=source
            )
        return entry_point.dispatch(command, self.request.user, seen=seen, base_version=trunk, source=source)


def _named(given: Mapping[str, Any]) -> str:
    """Which record a queued command is about, even if nothing else of it can be understood."""
    return f"{str(given.get('type', '')).partition('.')[0]}-{str(given.get('key', '')).lower()}"


def _stream(command: Command) -> str:
    return types.stream_name(aggregate.of_command(type(command.data)).category, command.key)


def _state(command: Command, version: int) -> Any:
    """The record as it was at a version that the client names; 422 for one that never was."""
    state, reached = snapshots.state(_stream(command), version)
    if reached < version:
        raise errors.InvalidCommand(fields={"trunk_version": f"This record is at version {reached}."})
    return state


def _blocked(seq: int) -> dict[str, Any]:
    detail = f"The command {seq} of this record was refused, and this one came after it."
    problem = problems.body(problems.Problem(409, "blocked_by", detail))
    return {"status": "rejected", "code": "blocked_by", "blocked_by": seq, "problem": problem}


def _told(error: Exception) -> dict[str, Any]:
    """A refusal as it would have been answered alone. Trouble of our own ends the request: it may be sent again."""
    problem = problems.described(error)
    if problem is None or problem.status_code >= 500:
        raise error
    told: dict[str, Any] = {"code": problem.problem, "problem": problems.body(problem)}
    if isinstance(error, errors.Conflict):
        told["conflict_id"] = error.conflict_id
    return told
