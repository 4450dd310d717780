"""`POST sync/`: executes commands that were queued offline, in order, each exactly once.

A *chain* is several queued edits of one record. The second edit was not made on any stored version but on what its
author saw: the last version from the server (the *trunk*) plus their own first edit. That state is rebuilt here and
used as the base, so that the author's earlier edit does not conflict with the later one, while edits by others are
detected wherever in the chain they were stored. docs/conflicts.md has an example.
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
    """Executes an offline queue."""

    operations = {
        "POST": openapi.Operation(
            id="sync",
            summary="Send commands that were queued offline",
            description=(
                "Executes them in the order of `seq`, each exactly once and in its own transaction. Always answers 200 "
                "with one verdict for each command. A rejected command blocks later commands of its record only "
                "(`blocked_by`). Where edits build on earlier queued edits, send the whole chain, including "
                "acknowledged ones, until the last edit has a verdict. Commands that were queued more than seven days "
                "ago (`sent_at` - `queued_at`) are filed as conflicts for review. A request that failed (5xx) can be "
                "repeated unchanged."
            ),
            tag="commands",
            request={openapi.JSON: openapi.ref("Queue")},
            response=openapi.ref("SyncAnswer"),
            errors=(400, 401, 403, 413, 415, 422, 429),
            scope="users:write (or of the record each command is about)",
        )
    }

    def post(self, request: Request) -> Response:
        views.allow_parameters(request, ())
        queue = shapes.checked(shapes.Queue, command_view.as_object(request.data))
        if queue.person is not None and queue.person != request.user.pk:
            raise problems.forbidden(
                "sync", "other_person", "Someone else queued these commands; that person must sign in to send them."
            )
        if len(queue.mutations) > MAX_MUTATIONS:
            raise problems.Problem(413, "too_large", f"Send at most {MAX_MUTATIONS} commands at once.")
        throttling.demand_commands(request, len(queue.mutations))
        flush = Flush(request, queue.client_id, queue.sent_at)
        return Response({"results": flush.run(in_order(queue.mutations))})


def in_order(mutations: Sequence[Mapping[str, Any]]) -> list[tuple[int, Mapping[str, Any]]]:
    """Sorts the queue by `seq`. Raises 422 when a `seq` is missing or repeated, because the order is then undefined."""
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
    """The state that the author of queued edits of one record saw.

    `seen` is that state, made of version `trunk` of the store and `length` edits of their own. It is None when nothing
    of it is known (an edit without a base).
    """

    trunk: int
    seen: Any
    length: int = 1

    def covers(self, base_version: int, trunk_version: int | None) -> bool:
        """Returns whether an edit was made on this chain; otherwise it was made on a newer version from the server.

        Without `trunk_version` the base decides: the client added the number of its own edits to the trunk's version.
        """
        if trunk_version is not None:
            return trunk_version == self.trunk
        return self.trunk <= base_version <= self.trunk + self.length


@dataclass
class Flush:
    """Processes the queue of one request."""

    request: Request
    client_id: str
    sent_at: datetime | None = None  # by the clock of the device, which may be wrong
    received_at: datetime = field(default_factory=timezone.now)
    chains: dict[str, Chain] = field(default_factory=dict)
    blocked: dict[str, int] = field(default_factory=dict)
    later: Counter[str] = field(default_factory=Counter)

    def run(self, queue: Sequence[tuple[int, Mapping[str, Any]]]) -> list[dict[str, Any]]:
        self.later = Counter(_record_of(given) for _, given in queue)
        results = []
        for seq, given in queue:
            self.later[_record_of(given)] -= 1
            results.append({"seq": seq, **self.verdict(seq, given)})
        return results

    def verdict(self, seq: int, given: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the verdict for one command.

        1  blocked by an earlier edit of its record?  2  well-formed and allowed?  3  rebuild what its author saw
        4  answered before?  5  too old? file it for review  6  execute it: merged, or a conflict in the inbox
        7  compute what its author saw afterwards
        """
        name = _record_of(given)
        if name in self.blocked:
            return {"id": given.get("id"), **_blocked(self.blocked[name])}
        try:
            mutation, command = self._parsed(given)
            trunk, seen = self._base(name, command, mutation)
            result = self._execute(mutation, command, trunk, seen, seq)
        except errors.Conflict as conflict:
            self._extend(name, command, trunk, seen, None)
            return {"id": command.id, "status": "conflict", **_refusal(conflict)}
        except (errors.EventsError, problems.Problem) as error:
            self.blocked[name] = seq
            return {"id": given.get("id"), "status": "rejected", **_refusal(error)}
        self._extend(name, command, trunk, seen, result)
        return command_view.shown(self.request, result)

    def _parsed(self, given: Mapping[str, Any]) -> tuple[shapes.Mutation, Command]:
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

    # -- the state that the author saw

    def _base(self, name: str, command: Command, mutation: shapes.Mutation) -> tuple[int, Any]:
        """Returns the trunk's version and the state the edit was made on; None if that is the trunk itself."""
        base, trunk = command.base_version, mutation.trunk_version
        chain = self.chains.get(name)
        if base is None or chain is None or chain.seen is None:
            if base is not None and trunk is not None and trunk < base:  # not all of its chain is in this queue
                return trunk, _state(command, trunk)
            return base or 0, None
        if not chain.covers(base, trunk):
            self._rebase(chain, command, base if trunk is None else trunk)
        return chain.trunk, chain.seen

    def _rebase(self, chain: Chain, command: Command, trunk: int) -> None:
        """Merges a newer version from the server with the author's queued edits: both were visible to the author."""
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
        """Updates the chain after a verdict, if further edits of the record follow."""
        if not self.later[name]:
            return
        chain = self.chains.setdefault(name, Chain(trunk, None, 0))
        chain.length += 1
        stored = result is not None and result.events and not result.merged
        if result is not None and stored and (command.base_version or result.version == len(result.events)):
            # Nobody else changed the record: the store has exactly the state that the author saw, including its times.
            chain.seen = snapshots.state(result.stream, result.version)[0]
        elif command.base_version is not None:
            record = aggregate.of_command(type(command.data))
            before = snapshots.state(_stream(command), trunk)[0] if seen is None else seen
            chain.seen = reconcile.applied_alone(command, record, before)

    # -- the verdict

    def _age(self, mutation: shapes.Mutation) -> timedelta | None:
        """Returns how long ago the command was queued: the difference between two readings of the device's clock.

        Without the second reading the server's clock is used. If the device's clock was set back, the age is taken as
        zero.
        """
        if mutation.queued_at is None:
            return None
        return max((self.sent_at or self.received_at) - mutation.queued_at, timedelta())

    def _execute(self, mutation: shapes.Mutation, command: Command, trunk: int, seen: Any, seq: int) -> commands.Result:
        age = self._age(mutation)
        queued_at = None if age is None else (self.received_at - age).isoformat()
        source = {"client_id": self.client_id, "seq": seq, "queued_at": queued_at}
        if age is not None and age > TOO_OLD:
            return entry_point.dispatch_overdue(
                command, self.request.user, seen=seen, base_version=trunk, source=source
            )
        return entry_point.dispatch(command, self.request.user, seen=seen, base_version=trunk, source=source)


def _record_of(given: Mapping[str, Any]) -> str:
    """Returns the record of a queued command, even if nothing else of the command can be parsed."""
    return f"{str(given.get('type', '')).partition('.')[0]}-{str(given.get('key', '')).lower()}"


def _stream(command: Command) -> str:
    return types.stream_name(aggregate.of_command(type(command.data)).category, command.key)


def _state(command: Command, version: int) -> Any:
    """Returns the record at a version that the client names. Raises 422 for a version that never existed."""
    state, reached = snapshots.state(_stream(command), version)
    if reached < version:
        raise errors.InvalidCommand(fields={"trunk_version": f"This record is at version {reached}."})
    return state


def _blocked(seq: int) -> dict[str, Any]:
    detail = f"The command {seq} of this record was refused, and this one came after it."
    problem = problems.body(problems.Problem(409, "blocked_by", detail))
    return {"status": "rejected", "code": "blocked_by", "blocked_by": seq, "problem": problem}


def _refusal(error: Exception) -> dict[str, Any]:
    """Returns the refusal that `POST commands/` would give. Server errors end the request, so that it is retried."""
    problem = problems.described(error)
    if problem is None or problem.status_code >= 500:
        raise error
    refusal: dict[str, Any] = {"code": problem.problem, "problem": problems.body(problem)}
    if isinstance(error, errors.Conflict):
        refusal["conflict_id"] = error.conflict_id
    return refusal
