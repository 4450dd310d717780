"""All errors of the event store. One root; the docstring is the default message.

Layers above translate the messages that people see. `code` is stable and part of the API (`application/problem+json`);
`status` is the HTTP status, defined here so that no error lacks one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal


class EventsError(Exception):
    """Something went wrong in the event store."""

    code: str = "events_error"
    status: int = 500

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())

    @property
    def message(self) -> str:
        return str(self)


# -- invalid input ---------------------------------------------------------------------------------------------------


class InvalidEvent(EventsError):
    """The event cannot be stored: its type is unknown, its data is not JSON, or it is too large."""

    code = "invalid_event"
    status = 400


class UnknownEventType(InvalidEvent):
    """No event of this name is registered."""

    code = "unknown_event_type"


class EventTooLarge(InvalidEvent):
    """The event is larger than the store accepts."""

    code = "event_too_large"
    status = 413


class InvalidJson(InvalidEvent):
    """This JSON breaks a rule of `events.strict_json`; `code` names the rule."""

    code = "malformed"

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code  # one class for all rules: callers treat them alike
        self.status = 413 if code == "too_large" else 400


class UnreadableEvent(InvalidEvent):
    """A stored event cannot be read by this release; what depends on it waits until it can."""

    code = "unreadable_event"
    status = 422

    def __init__(self, why: str, stream: str = "", version: int | None = None, position: int | None = None) -> None:
        """`why` is a code of `events.types.UNREADABLE`."""
        place = f" at position {position}" if position is not None else ""
        number = f" version {version}" if version is not None else ""
        super().__init__(f"The event {stream}{number}{place} cannot be read ({why}).")
        self.why, self.stream, self.version, self.position = why, stream, version, position


class DuplicateEvent(EventsError):
    """An event with this id is already stored."""

    code = "duplicate_event"
    status = 409


class UnknownCommand(EventsError):
    """No command of this name is registered."""

    code = "unknown_command"
    status = 400


class InvalidCommand(EventsError):
    """Some values cannot be accepted: `fields` has one message per field."""

    code = "invalid"
    status = 422

    def __init__(self, message: str | None = None, fields: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.fields: dict[str, str] = dict(fields or {})


class Rejected(InvalidCommand):
    """The record's rules do not allow this change."""

    code = "rejected"


class ReasonRequired(InvalidCommand):
    """Enter a reason: it is required for this change."""

    code = "reason_required"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message)
        self.fields = {"reason": self.message}


class ReservedId(InvalidCommand):
    """Choose another id: UUIDs of version 5 are reserved for ids that the server derives."""

    code = "reserved_id"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message)
        self.fields = {"id": self.message}


class StreamNotFound(EventsError):
    """There is no such record."""

    code = "not_found"
    status = 404


class IdempotencyKeyReused(EventsError):
    """This command id was already used for a different command."""

    code = "idempotency_key_reused"
    status = 422


# -- concurrent changes ----------------------------------------------------------------------------------------------


class WrongExpectedVersion(EventsError):
    """The stream is not at the version the writer expected."""

    code = "wrong_expected_version"
    status = 409

    def __init__(self, stream: str, expected: int | str, actual: int | None) -> None:
        """`actual` is None where it was not looked up: a stream that should be new already exists."""
        found = "already there" if actual is None else f"at version {actual}"
        super().__init__(f"Stream {stream} is {found}, expected {expected}.")
        self.stream, self.expected, self.actual = stream, expected, actual


class Conflict(EventsError):
    """Someone else changed the same fields since this record was opened."""

    code = "conflict"
    status = 409
    why: ClassVar[Literal["conflict", "age"]] = "conflict"

    def __init__(
        self,
        *,
        stream: str,
        base_version: int,
        version: int,
        base: Mapping[str, Any],
        theirs: Mapping[str, Any],
        mine: Mapping[str, Any],
        fields: Sequence[str],
        conflicts: Sequence[Mapping[str, Any]] = (),
        conflict_id: str | None = None,
    ) -> None:
        """`conflicts` has details of the `fields`; `conflict_id` is set when the change waits for a person."""
        super().__init__()
        self.stream, self.base_version, self.version = stream, base_version, version
        self.base, self.theirs, self.mine, self.fields = dict(base), dict(theirs), dict(mine), list(fields)
        self.conflicts, self.conflict_id = [dict(conflict) for conflict in conflicts], conflict_id


class Overdue(Conflict):
    """This was queued too long ago to be applied unseen."""

    why = "age"


class Erased(EventsError):
    """This was erased with all data about the person; it can no longer be changed."""

    code = "erased"
    status = 410


# -- the database -----------------------------------------------------------------------------------------------------


class AppendOnly(EventsError):
    """Stored events are never changed or deleted."""

    code = "append_only"


class Archived(EventsError):
    """These events are archived, and their file is not here."""

    code = "archived"
    status = 503

    def __init__(self, message: str | None = None, upto: int = 0) -> None:
        """`upto` is the last archived position."""
        super().__init__(message)
        self.upto = upto


class ArchiveRefused(EventsError):
    """This part of the log cannot be archived or restored now."""

    code = "archive_refused"
    status = 409


class StoreUnavailable(EventsError):
    """The database cannot be reached; nothing was stored."""

    code = "store_unavailable"
    status = 503


class NotPrimary(StoreUnavailable):
    """This database is a standby: how far the log can be read is only known on the primary."""

    code = "not_primary"


class TookTooLong(EventsError):
    """This would take longer than a page may: ask for less."""

    code = "took_too_long"
    status = 503


class Undecryptable(EventsError):
    """This personal data cannot be decrypted here."""

    code = "undecryptable"
    status = 503
    why = "no_key"  # the code in `types.UNREADABLE` for events that hold it


class MasterKeyMissing(Undecryptable):
    """Personal data cannot be read: a master key is not configured."""

    code = "master_key_missing"


class MasterKeyWrong(MasterKeyMissing):
    """Personal data cannot be read or written: a master key is not the one that was used under its id."""

    code = "master_key_wrong"


class StaleKeys(EventsError):
    """The keys of personal data have changed since this process read them; try again."""

    code = "stale_keys"
    status = 503


class LeaseLost(EventsError):
    """Another runner took over this subscription."""

    code = "lease_lost"


class UnknownSubscription(EventsError):
    """There is no such subscription."""

    code = "unknown_subscription"
    status = 404


class NotParked(EventsError):
    """Nothing is parked there."""

    code = "not_parked"
    status = 404


class TooManyParked(EventsError):
    """So many streams cannot be handled that something else must be wrong."""

    code = "too_many_parked"


class PartitionsDiffer(EventsError):
    """A subscription can change its number of partitions only at rest."""

    code = "partitions_differ"


class RebuildRefused(EventsError):
    """This read table cannot be rebuilt now."""

    code = "rebuild_refused"
    status = 409


class HistoryRewound(EventsError):
    """A checkpoint is ahead of the log: history was rewound, and continuing would skip events."""

    code = "history_rewound"


class WaitTimeout(EventsError):
    """The projection did not reach the position in time."""

    code = "wait_timeout"
    status = 504
