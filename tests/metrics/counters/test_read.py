"""The read functions: every day has a row, unique owners of a range, totals, 90 days of one record."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from backoffice.sections.forms import domain as forms
from backoffice.sections.users import domain as users
from events import head, store
from events.types import new_id
from metrics.counters import read
from tests import factories
from tests.metrics.counters import counting

pytestmark = pytest.mark.django_db(transaction=True)


def test_before_the_first_event_everything_is_zero_and_every_day_has_a_row() -> None:
    today, key = counting.now().date(), new_id()
    assert read.as_of() == read.AsOf(0, None)
    assert read.totals() == read.Totals()
    assert read.window() is None
    assert read.users([key]) == {key: read.UserCounts()}
    assert read.forms([key]) == {key: read.FormCounts()}
    week = read.days(today - timedelta(days=6), today)
    assert [one.date for one in week] == [today - timedelta(days=6 - n) for n in range(7)]
    assert {(one.submissions, one.avg_completion_time) for one in week} == {(0, None)}


def test_every_day_has_a_row_also_where_clocks_change() -> None:
    """Metabase#71811: a series in local time skips a day. Here the time zone of the session does not matter."""
    first, last = counting.now().date().replace(month=3, day=20), counting.now().date().replace(month=11, day=10)
    store.execute("set time zone 'America/New_York'")
    try:
        days = [one.date for one in read.days(first, last)]
    finally:
        store.execute("reset time zone")
    assert days == [first + timedelta(days=n) for n in range((last - first).days + 1)]


def test_average_is_of_submissions_with_a_time() -> None:
    form = factories.form()
    for seconds in (10, 20, None):
        counting.receive(form, seconds=seconds)
    counting.follow()
    today = counting.now().date()
    (found,) = read.days(today, today)
    assert (found.submissions, found.timed, found.seconds, found.avg_completion_time) == (3, 2, Decimal(30), 15.0)


def test_owners_of_a_range_are_counted_once() -> None:
    owner, other = factories.user(), factories.user()
    for days in (0, 1, 2):
        counting.send(forms.CreateForm(user_id=owner, title="A form", created_at=counting.ago(days=days)), new_id())
    counting.send(forms.CreateForm(user_id=other, title="A form", created_at=counting.ago(days=1)), new_id())
    counting.follow()
    today = counting.now().date()
    first = today - timedelta(days=2)
    assert [one.unique_users for one in read.days(first, today)] == [1, 2, 1]
    assert read.unique_owners(first, today) == 2


def test_totals_follow_users_forms_and_submissions() -> None:
    owner, other = factories.user(), factories.user()
    form, gone = factories.form(owner), factories.form(owner)
    for paper in (form, form, gone):
        counting.receive(paper)
    counting.send(forms.DeleteForm(), gone)
    counting.send(users.DeleteUser(), other)
    counting.follow()
    assert read.totals() == read.Totals(user_count=1, form_count=1, submission_count=2)
    counting.demand_identity()


def test_days_of_a_record_cover_90_days_of_living_submissions() -> None:
    owner = factories.user()
    form, gone = factories.form(owner), factories.form(owner)
    for paper in (form, gone):
        for days in (0, 0, 5, 89, 90):
            counting.receive(paper, counting.ago(days=days))
    counting.send(forms.DeleteForm(), gone)
    counting.follow()
    today = counting.now().date()
    for found in (read.form_days(form), read.user_days(owner)):
        assert len(found) == 90
        assert {day: n for day, n in found if n} == {
            today: 2,
            today - timedelta(days=5): 1,
            today - timedelta(days=89): 1,
        }
    assert sum(n for _, n in read.form_days(gone)) == 4


def test_as_of_names_the_position_and_what_is_not_counted() -> None:
    form = factories.form()
    counting.follow()
    counting.park(counting.receive(form))
    found = read.as_of()
    assert (found.position, found.not_counted) == (head.safe(), 1)
    assert found.at is not None
