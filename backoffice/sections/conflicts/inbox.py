"""The conflict inbox: stores changes that could not be merged, lists them, and resolves them.

`backoffice.commands.dispatch` files a conflict in a separate transaction, after the command's was rolled back.

Resolving merges the change again, with the current record and a person's choices. The resulting change and the
`conflict.resolved` event are written in one transaction.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import msgspec
from django.db import transaction
from django.db.models import Count, Q, QuerySet

from backoffice import access, listing, models, section
from backoffice.sections.conflicts import domain, situations
from events import aggregate, answers, commands, context, errors, reconcile, snapshots, store, types
from events.types import Command, CommandData

SPEC: Final = listing.Spec(
    name="conflicts",
    model=models.Conflict,
    sorts={"created_at": listing.CREATED},
    default_sort="-created_at",
)


class Moved(errors.EventsError):
    """The record changed again while you decided. Check again; your choices are kept."""

    code = "conflict_moved"
    status = 409


class Forbidden(errors.EventsError):
    """Your role does not allow this."""

    code = "forbidden"
    status = 403

    def __init__(self, missing: str) -> None:
        super().__init__(f"Your role does not allow {missing}.")
        self.missing = missing


# -- filing --------------------------------------------------------------------------------------------------------


def file(command: Command, conflict: errors.Conflict, source: Any = None) -> str:
    """Files a conflict and returns its id, which is the same for the same command."""
    key = domain.id_for(command.id)
    acting = context.current()
    asked = {"id": command.id, "type": command.type, "key": command.key, "data": command.data}
    filing = domain.FileConflict(
        stream=conflict.stream,
        command=types.to_builtins({**asked, "reason": command.reason}),
        base_version=conflict.base_version,
        version=conflict.version,
        base=conflict.base,
        theirs=conflict.theirs,
        mine=conflict.mine,
        fields=conflict.fields,
        conflicts=conflict.conflicts,
        author=acting.actor,
        author_name=acting.actor_name,
        fingerprint=answers.fingerprint(command).hex(),
        why=conflict.why,
        source=source,
    )
    try:
        commands.dispatch(Command(id=types.new_id(), key=str(key), data=filing, reason=command.reason))
    except errors.EventTooLarge:
        # Three versions of a very long form. They are left out, and rebuilt from the store when the conflict is read.
        lean = msgspec.structs.replace(filing, base={}, theirs={}, mine={}, conflicts=[])
        commands.dispatch(Command(id=types.new_id(), key=str(key), data=lean, reason=command.reason))
    return str(key)


def review(command: Command, seen: Any, base_version: int, source: Any) -> errors.Conflict:
    """Files a change that is too old to be applied without a person's decision; returns the `Conflict` to raise."""
    record = aggregate.of_command(type(command.data))
    stream = types.stream_name(record.category, command.key)
    state, version = snapshots.state(stream)
    if command.base_version is None:
        base, base_version = state, version
    else:
        base = snapshots.state(stream, base_version)[0] if seen is None else seen
    mine = record.dump(reconcile.applied_alone(command, record, base))
    commands.demand_reason(command, record, record.dump(base), mine, created=base_version == 0)
    conflict = errors.Overdue(
        stream=stream,
        base_version=base_version,
        version=version,
        base=record.dump(base),
        theirs=record.dump(state),
        mine=mine,
        fields=[],
    )
    file(command, conflict, source)
    key = domain.id_for(command.id)
    found = filed(key)
    assert found is not None
    return as_error(found, str(key))


def recall(command: Command) -> None:
    """Raises the `Conflict` that this command received before.

    Called only before a merge, so that commands on an unchanged record cost no extra query.
    """
    found = filed(domain.id_for(command.id))
    if found is None:
        return
    if found.fingerprint != answers.fingerprint(command).hex():
        raise errors.IdempotencyKeyReused(f"The id {command.id} was already used for a different command.")
    raise as_error(found, str(domain.id_for(command.id)))


def filed(key: uuid.UUID) -> domain.ConflictFiled | None:
    """Returns the first event of a conflict; None if there is no such conflict."""
    first = store.read_stream(types.stream_name(domain.CATEGORY, key), limit=1)
    return cast(domain.ConflictFiled, first[0].event) if first else None


def as_error(found: domain.ConflictFiled, conflict_id: str) -> errors.Conflict:
    """Returns a filed conflict as the error that its command received."""
    kind = errors.Overdue if found.why == "age" else errors.Conflict
    return kind(
        stream=found.stream,
        base_version=found.base_version,
        version=found.version,
        base=found.base,
        theirs=found.theirs,
        mine=found.mine,
        fields=found.fields,
        conflicts=found.conflicts,
        conflict_id=conflict_id,
    )


# -- the list -------------------------------------------------------------------------------------------------------


def categories(staff: Any) -> list[str]:
    """Returns the kinds of record that this person may view; they see the conflicts of these."""
    return [kind.category for kind in section.kinds() if access.may(staff, "view", kind.category)]


def visible(staff: Any, only: Sequence[str] | None = None) -> QuerySet[models.Conflict]:
    """Returns the conflicts that this person may see; `only` limits them to these kinds of record."""
    seen = [category for category in categories(staff) if only is None or category in only]
    return models.Conflict.objects.filter(category__in=seen)


def mine(staff: Any) -> Q:
    """Matches conflicts that are assigned to this person, or were caused by them and are unassigned."""
    return Q(assignee_id=staff.pk) | Q(author=f"staff:{staff.pk}", assignee_id=None)


def team(staff: Any) -> Q:
    """Matches conflicts assigned to people of the same role, or caused by them and unassigned."""
    colleagues = models.Staff.objects.filter(role=staff.role, is_superuser=staff.is_superuser, is_active=True)
    keys = list(colleagues.values_list("pk", flat=True))
    return Q(assignee_id__in=keys) | Q(author__in=[f"staff:{key}" for key in keys], assignee_id=None)


# value of the inbox's `whose` filter -> its query
WHOSE: Final[Mapping[str, Callable[[Any], Q]]] = {"everybody": lambda _staff: Q(), "team": team, "mine": mine}


def count_open(staff: Any) -> dict[str, int]:
    """Counts open conflicts: this person's, and all of the kinds that they may view."""
    waiting = visible(staff).filter(status="open")
    found = waiting.aggregate(mine=Count("id", filter=mine(staff)), everybody=Count("id"))
    return {"mine": found["mine"], "everybody": found["everybody"]}


def count_team(staff: Any) -> int:
    """Counts open conflicts of this person's team. Separate from `count_open`, which runs for every page."""
    return visible(staff).filter(team(staff), status="open").count()


def may_settle(staff: Any, command_type: str) -> bool:
    """Returns whether this person may send commands of this type. Fields are checked later, on the resulting change."""
    category, _, action = command_type.partition(".")
    return access.may(staff, action, category)


# -- resolving ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Settled:
    """Result of resolving: the applied change (None if the record was not changed) and the record's version."""

    result: commands.Result | None
    version: int


LOCK: Final = "select version from events_stream where stream = %s for update"


def resolve(
    key: uuid.UUID,
    staff: Any,
    choices: Mapping[str, Any],
    values: Mapping[str, Any] | None = None,
    *,
    reason: str | None = None,
    seen: int | None = None,
) -> Settled:
    """Resolves a conflict: applies the chosen change and records `conflict.resolved`, in one transaction.

    choices  path -> ``theirs``, ``mine`` or ``value``
    values   path -> typed value, where the choice is ``value``
    seen     version of the record that the person saw. `Moved` is raised if the open choices have changed since then

    Raises `StreamNotFound`, `Forbidden`, `AlreadySettled`, `Moved`, `InvalidCommand` (a message per path) and the
    errors of the record's own rules. Then nothing was written.
    """
    chosen = as_choices(choices, values or {})
    with transaction.atomic():
        store.query(LOCK, (types.stream_name(domain.CATEGORY, key),))  # a second request sees the result of the first
        now = situations.situation(key)
        demand(staff, now)
        if now.status != "open":
            raise domain.AlreadySettled
        if seen is not None and seen < now.version and situations.situation(key, seen).decisions != now.decisions:
            raise Moved
        result = _applied(now, staff, chosen, reason)
        version = result.version if result else now.version
        data = domain.ResolveConflict(
            choices={path: "value" if isinstance(choice, dict) else choice for path, choice in chosen.items()},
            values={path: choice["value"] for path, choice in chosen.items() if isinstance(choice, dict)},
            parents={"base_version": now.filed.base_version, "theirs_version": now.version},
            version=version,
        )
        commands.dispatch(Command(id=types.new_id(), key=str(key), data=data, reason=reason))
    return Settled(result, version)


def as_choices(choices: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Combines choices and typed values into the merge's format. Raises `InvalidCommand` if they contradict."""
    wrong: dict[str, str] = {}
    found: dict[str, Any] = {}
    for path in {**choices, **values}:
        choice = choices.get(path, "value")
        if choice == "value" and path in values:
            found[path] = {"value": values[path]}
        elif choice in ("theirs", "mine") and path not in values:
            found[path] = choice
        else:
            wrong[path] = 'Choose "theirs" or "mine", or "value" and enter the value in `values`.'
    if wrong:
        raise errors.InvalidCommand(fields=wrong)
    return found


def _applied(
    now: situations.Situation, staff: Any, chosen: Mapping[str, Any], reason: str | None
) -> commands.Result | None:
    data = now.decided(chosen)
    if data is None:
        return None
    asked = now.filed.command
    command = Command(id=types.new_id(), key=asked["key"], data=data, base_version=now.version, reason=reason)
    if missing := access.may_command(staff, command):
        raise Forbidden(missing)
    try:
        return commands.dispatch(command)
    except errors.Conflict as conflict:  # the record changed between the read and the lock
        raise Moved from conflict


def demand(staff: Any, now: situations.Situation) -> None:
    """Raises `Forbidden` for a person who may not send commands of the type that conflicted."""
    kind = now.filed.command["type"]
    if not may_settle(staff, kind):
        raise Forbidden(kind)


def act(key: uuid.UUID, staff: Any, data: CommandData, reason: str | None = None) -> commands.Result:
    """Assigns, comments on, dismisses or reopens a conflict.

    Raises `Forbidden` without the right to resolve it, `StreamNotFound`, `AlreadySettled` and `InvalidCommand`.
    """
    found = filed(key)
    if found is None:
        raise errors.StreamNotFound("There is no such conflict.")
    if not may_settle(staff, found.command["type"]):
        raise Forbidden(found.command["type"])
    if isinstance(data, domain.AssignConflict) and data.assignee is not None:
        _assignable(data.assignee, found.command["type"])
    return commands.dispatch(Command(id=types.new_id(), key=str(key), data=data, reason=reason))


def _assignable(assignee: int, command_type: str) -> None:
    person = models.Staff.objects.filter(pk=assignee, is_active=True).first()
    if person is None or not may_settle(person, command_type):
        raise errors.InvalidCommand(fields={"assignee": "This person cannot resolve this conflict."})


def assignable(command_type: str) -> list[models.Staff]:
    """Returns the active staff who may resolve conflicts of commands of this type."""
    people = models.Staff.objects.filter(is_active=True, is_staff=True).order_by("username")
    return [person for person in people if may_settle(person, command_type)]
