"""A FormEase customer, from sign-up to deletion: events, commands, state, evolve, decide, conflicts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec
from msgspec import UNSET, UnsetType

from backoffice import bounds, values
from backoffice.lifecycle import Lifecycle
from events import errors
from events.aggregate import Aggregate, Decision, Reasons
from events.types import ERASED, CommandData, Event, command_type, event_type

# Changes that need a reason, wherever they are made.
REASONS = Reasons(fields=("email", "role", "plan"), message="Enter a reason: required for plan, role and email.")
PERSONAL = ("email", "first_name", "last_name")
SUBJECT = "user-{key}"

# -- events ---------------------------------------------------------------------------------------------------------


@event_type("user.created", personal=PERSONAL, subject=SUBJECT)
class UserCreated(Event, frozen=True):
    email: str
    first_name: str
    last_name: str
    plan: values.Plan
    role: values.Role
    created_at: datetime
    last_login: datetime | None = None


@event_type("user.updated", personal=PERSONAL, subject=SUBJECT)
class UserUpdated(Event, frozen=True):
    """Contains only the changed fields."""

    email: str | UnsetType = UNSET
    first_name: str | UnsetType = UNSET
    last_name: str | UnsetType = UNSET
    plan: values.Plan | UnsetType = UNSET
    role: values.Role | UnsetType = UNSET
    last_login: datetime | UnsetType | None = UNSET


@event_type("user.deleted", subject=SUBJECT)
class UserDeleted(Event, frozen=True):
    deleted_at: datetime


@event_type("user.restored", subject=SUBJECT)
class UserRestored(Event, frozen=True):
    """The deleted user was restored."""


@event_type("user.erased", erases=True)
class UserErased(Event, frozen=True):
    """The keys of the user's personal data and of their forms were deleted. Actor and reason stay readable."""

    erased_at: datetime
    deleted_at: datetime


# -- commands -------------------------------------------------------------------------------------------------------


@command_type("user.create")
class CreateUser(CommandData, frozen=True):
    email: str
    first_name: values.Name = ""
    last_name: values.Name = ""
    plan: values.Plan = "free"
    role: values.Role = "member"
    created_at: datetime | None = None
    last_login: datetime | None = None


@command_type("user.update")
class UpdateUser(CommandData, frozen=True):
    email: str | UnsetType = UNSET
    first_name: values.Name | UnsetType = UNSET
    last_name: values.Name | UnsetType = UNSET
    plan: values.Plan | UnsetType = UNSET
    role: values.Role | UnsetType = UNSET
    last_login: datetime | UnsetType | None = UNSET


@command_type("user.delete")
class DeleteUser(CommandData, frozen=True):
    pass


@command_type("user.restore")
class RestoreUser(CommandData, frozen=True):
    """Restore a deleted user."""


@command_type("user.erase", despite_gaps=True)
class EraseUser(CommandData, frozen=True):
    """Make the personal data of a user unreadable for ever, including their forms and the submissions to these."""


# -- state ----------------------------------------------------------------------------------------------------------


class User(msgspec.Struct, frozen=True, kw_only=True):
    email: str = ""
    first_name: str = ""
    last_name: str = ""
    plan: values.Plan = "free"
    role: values.Role = "member"
    last_login: datetime | None = None
    created_at: datetime | None = None
    deleted_at: datetime | None = None
    erased_at: datetime | None = None

    @property
    def exists(self) -> bool:
        return self.created_at is not None


def evolve(state: User, event: Event) -> User:
    match event:
        case UserCreated() | UserUpdated():
            return msgspec.structs.replace(state, **values.given(event))
        case UserDeleted():
            return msgspec.structs.replace(state, deleted_at=event.deleted_at)
        case UserRestored():
            return msgspec.structs.replace(state, deleted_at=None)
        case UserErased():
            gone = dict.fromkeys(PERSONAL, ERASED)
            return msgspec.structs.replace(
                state, **gone, last_login=None, deleted_at=event.deleted_at, erased_at=event.erased_at
            )
        case _:
            return state


# -- decide ---------------------------------------------------------------------------------------------------------

_LIMITS: dict[str, bounds.Limit] = dict.fromkeys(("first_name", "last_name"), bounds.text(bounds.NAME))
_RULES: values.Rules = {
    "email": values.normal_email,
    "first_name": values.normal_name,
    "last_name": values.normal_name,
    "last_login": values.utc_or_none,
    "created_at": values.utc_or_none,
}


_LIFE = Lifecycle(
    rules=_RULES,
    limits=_LIMITS,
    duplicate="A user with this id already exists.",
    missing="There is no such user.",
    erased="This user was erased.",
    deleted="This user was deleted; restore it first.",
)


def decide(command: CommandData, state: User, at: Decision) -> Sequence[Event]:
    match command:
        case CreateUser():
            return _LIFE.create(command, state, at, UserCreated)
        case UpdateUser():
            return _LIFE.update(command, state, UserUpdated)
        case DeleteUser():
            return _LIFE.delete(state, at, UserDeleted)
        case RestoreUser():
            return _LIFE.restore(state, UserRestored)
        case EraseUser():
            return _LIFE.erase(state, at, UserErased)
        case _:
            raise errors.UnknownCommand


# -- the record -----------------------------------------------------------------------------------------------------

# No merge policies: a person decides fields that both sides changed to different values, which is right for the
# critical fields (email, role, plan) and harmless for names. Changes of different fields merge.
AGGREGATE = Aggregate(
    category="user",
    state=User,
    initial=User,
    evolve=evolve,
    decide=decide,
    commands=(CreateUser, UpdateUser, DeleteUser, RestoreUser, EraseUser),
    reasons=REASONS,
    state_version=3,
    subject=SUBJECT,
)
