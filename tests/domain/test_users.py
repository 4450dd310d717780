"""Decisions about FormEase customers: sign-up, changes, deletion and restoring."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from backoffice.sections.users.domain import (
    AGGREGATE,
    CreateUser,
    DeleteUser,
    RestoreUser,
    UpdateUser,
    UserCreated,
    UserDeleted,
    UserRestored,
    UserUpdated,
)
from events import errors, testing
from events.types import CommandData

NOW = testing.NOW
EARLIER = datetime(2020, 5, 6, tzinfo=UTC)
given = testing.decider(AGGREGATE)


def created(**fields) -> UserCreated:
    usual = {
        "email": "ada@example.org",
        "first_name": "Ada",
        "last_name": "",
        "plan": "free",
        "role": "member",
        "created_at": EARLIER,
    }
    return UserCreated(**usual | fields)


DELETED = UserDeleted(deleted_at=EARLIER)


def test_sign_up_has_the_current_time_and_normalised_values() -> None:
    given().when(CreateUser(email=" Ada@Example.ORG ", first_name="  Ada   King ")).then(
        created(email="ada@example.org", first_name="Ada King", created_at=NOW)
    ).then_state(email="ada@example.org", created_at=NOW, deleted_at=None)


def test_imported_user_keeps_the_time_of_the_sign_up_in_utc() -> None:
    paris = datetime(2019, 7, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    given().when(CreateUser(email="a@b.org", created_at=paris)).then_state(
        created_at=datetime(2019, 7, 1, 10, tzinfo=UTC)
    )
    given().when(CreateUser(email="a@b.org", created_at=datetime(2019, 7, 1))).then_state(
        created_at=datetime(2019, 7, 1, tzinfo=UTC)
    )


@pytest.mark.parametrize(
    "address", ["", "ada", "ada@", "@example.org", "ada@example", "a b@c.org", "a@b..org", "a@b@c.org"]
)
def test_invalid_email_address_is_refused(address: str) -> None:
    given().when(CreateUser(email=address)).then_rejected("valid email", field="email")
    given(created()).when(UpdateUser(email=address)).then_rejected("valid email", field="email")


def test_address_longer_than_the_standard_allows_is_refused() -> None:
    given().when(CreateUser(email="a" * 248 + "@b.org")).then_state(deleted_at=None)
    given().when(CreateUser(email="a" * 249 + "@b.org")).then_rejected(field="email")


@pytest.mark.parametrize("past", [(created(),), (created(), DELETED)])
def test_user_is_not_created_twice(past: tuple) -> None:
    given(*past).when(CreateUser(email="b@example.org")).then_rejected(
        "already exists", field="key", error=errors.Rejected
    )


def test_update_contains_only_changes() -> None:
    given(created()).when(UpdateUser(first_name="Ada", plan="premium")).then(UserUpdated(plan="premium"))


@pytest.mark.parametrize(
    "command",
    [
        UpdateUser(),
        UpdateUser(first_name=" Ada "),
        UpdateUser(email="ADA@example.org"),
        UpdateUser(last_login=None),
        UpdateUser(plan="free", role="member"),
    ],
)
def test_update_without_changes_has_no_event(command: CommandData) -> None:
    given(created()).when(command).then_nothing()


def test_null_login_differs_from_an_unset_login() -> None:
    seen = created(last_login=EARLIER)
    given(seen).when(UpdateUser(last_login=None)).then(UserUpdated(last_login=None)).then_state(last_login=None)
    given(seen).when(UpdateUser(plan="premium")).then_state(last_login=EARLIER)


def test_deletion_has_a_time_and_happens_once() -> None:
    given(created()).when(DeleteUser()).then(UserDeleted(deleted_at=NOW)).then_state(deleted_at=NOW)
    given(created(), DELETED).when(DeleteUser()).then_nothing()


def test_deleted_user_cannot_be_changed_until_restored() -> None:
    gone = given(created(), DELETED)
    gone.when(UpdateUser(plan="premium")).then_rejected("restore it first", error=errors.Rejected)
    back = (
        gone.when(RestoreUser()).then(UserRestored()).then_state(deleted_at=None, email="ada@example.org").and_given()
    )
    back.when(UpdateUser(plan="premium")).then(UserUpdated(plan="premium"))
    back.when(RestoreUser()).then_nothing()


@pytest.mark.parametrize("command", [UpdateUser(plan="premium"), DeleteUser(), RestoreUser()])
def test_missing_user_is_not_found(command: CommandData) -> None:
    given().when(command).then_not_found("no such user")


def test_all_errors_are_reported_together() -> None:
    outcome = given().when(CreateUser(email="nobody"))
    assert outcome.refusal.fields.keys() == {"email"}
