"""The table of effects is complete and correct: every event is produced, handled, and compared with its row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction

from backoffice.sections.forms import domain as forms
from backoffice.sections.site_settings import domain as site_settings
from backoffice.sections.submissions import domain as submissions
from backoffice.sections.users import domain as users
from events import commands, freshness, head, store, types
from events.types import RecordedEvent, new_id
from metrics import effects
from metrics.counters import applying
from realtime import topics
from tests import factories
from tests.backoffice import api_client
from tests.metrics.counters import counting

pytestmark = pytest.mark.django_db(transaction=True)

KEYS = {"form": "form_id", "user": "user_id", "hour": "form_id, hour", "day": "day", "total": "id"}
COLUMNS = {
    "form": ("metrics_form_stats", "alive, submissions, last_at"),
    "user": ("metrics_user_stats", "alive, form_count, submission_count, recent, last_at"),
    "hour": ("metrics_form_hours", "n"),
    "day": ("metrics_day_stats", "users_created, forms_created, unique_users, submissions, timed, seconds"),
    "total": ("metrics_counters_state", "user_count, form_count, submission_count"),
}


@pytest.fixture(autouse=True)
def _own_database(own_database: None) -> None:
    """The counters belong to one test."""


class Records:
    """A user with a form of two submissions and a deleted form, two other users, and a setting."""

    def __init__(self) -> None:
        self.user, self.gone_user = factories.user(), factories.user()
        self.lonely = factories.user()
        self.form, self.gone_form = factories.form(self.user), factories.form(self.user)
        counting.receive(self.form, counting.ago(hours=30), 5.0)
        self.submission = counting.receive(self.form, counting.ago(hours=1), 10.0)
        counting.receive(self.gone_form, counting.ago(minutes=1), 10.0)
        counting.send(users.DeleteUser(), self.gone_user)
        counting.send(forms.DeleteForm(), self.gone_form)
        counting.send(site_settings.SetSetting(value=1), "limits.a")
        counting.follow()


# Type of event -> (records) -> the command that has this event as its first effect, and the key of its record.
ACTIONS: dict[str, Callable[[Records], tuple[Any, Any]]] = {
    "user.created": lambda r: (users.CreateUser(email=api_client.email()), new_id()),
    "user.updated": lambda r: (users.UpdateUser(first_name="Ada"), r.user),
    "user.deleted": lambda r: (users.DeleteUser(), r.user),
    "user.restored": lambda r: (users.RestoreUser(), r.gone_user),
    "user.erased": lambda r: (users.EraseUser(), r.lonely),
    "form.created": lambda r: (forms.CreateForm(user_id=r.lonely, title="A form"), new_id()),
    "form.updated": lambda r: (forms.UpdateForm(archived=True), r.form),
    "form.deleted": lambda r: (forms.DeleteForm(), r.form),
    "form.restored": lambda r: (forms.RestoreForm(), r.gone_form),
    "form.erased": lambda r: (forms.EraseForm(), r.form),
    "submission.received": lambda r: (
        submissions.ReceiveSubmission(form_id=r.form, answers={}, completion_time=3.0),
        new_id(),
    ),
    "submission.corrected": lambda r: (
        submissions.CorrectSubmission(created_at=counting.ago(days=40), completion_time=None),
        r.submission,
    ),
    "submission.deleted": lambda r: (submissions.DeleteSubmission(), r.submission),
    "submission.erased": lambda r: (submissions.EraseSubmission(), r.submission),
    "setting.changed": lambda r: (site_settings.SetSetting(value=2), "limits.b"),
    "setting.removed": lambda r: (site_settings.RemoveSetting(), "limits.a"),
}


def produce(name: str) -> RecordedEvent:
    """Make the event happen; returns it."""
    records = Records()
    before = head.safe()
    data, key = ACTIONS[name](records)
    commands.dispatch(factories.command(data, key, reason="asked"))
    (event,) = store.read_all(before, 10, upto=head.safe())
    assert event.type == name
    return event


def counters() -> dict[tuple[str, Any, str], Any]:
    """(table, key of its row, column) -> value, without zeros."""
    found = {}
    for table, (name, columns) in COLUMNS.items():
        keys = KEYS[table]
        count = keys.count(",") + 1
        for row in store.query(f"select {keys}, {columns} from {name}"):
            for column, value in zip(columns.split(", "), row[count:], strict=True):
                found[table, row[:count], column] = value
    return found


def changed(before: dict[Any, Any], after: dict[Any, Any]) -> set[str]:
    return {
        f"{table}.{column}"
        for table, key, column in before.keys() | after.keys()
        if (before.get((table, key, column)) or 0) != (after.get((table, key, column)) or 0)
    }


def test_every_event_of_a_record_has_a_row_and_an_action() -> None:
    categories = {"user", "form", "submission", "setting"}
    known = {kind.name for kind in types.event_types() if kind.name.partition(".")[0] in categories}
    assert known == effects.EFFECTS.keys() == ACTIONS.keys()


@pytest.mark.parametrize("name", effects.EFFECTS)
def test_event_reaches_its_topics_and_tags(name: str) -> None:
    event, row = produce(name), effects.EFFECTS[name]
    fields = {"key": event.key, **event.data}
    assert sorted(freshness.tags_of(event)) == sorted(tag.format_map(fields) for tag in row.tags)
    assert freshness.is_hard(event) is row.hard
    shown = {topic: declared.project(event, "admin") for topic, declared in topics.of_event(event)}
    assert sorted(topic for topic, frame in shown.items() if frame) == sorted(
        topic.format_map(fields) for topic in row.topics
    )


@pytest.mark.parametrize("name", effects.EFFECTS)
def test_event_changes_its_counters_once(name: str) -> None:
    """The event is handled twice: first without a commit, as by a killed runner, then to the end."""
    event, row = produce(name), effects.EFFECTS[name]
    before = counters()
    if row.counters:
        with transaction.atomic():
            applying.handle([event])
            assert changed(before, counters()) == set(row.counters)
            transaction.set_rollback(True)
    assert changed(before, counters()) == set()
    counting.follow()
    assert changed(before, counters()) == set(row.counters)
    counting.demand_identity()
    counting.demand_fresh()
