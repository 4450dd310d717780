"""The read functions: every day has a row, unique owners of a range, totals, 90 days of one record."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from backoffice.sections.forms import domain as forms
from backoffice.sections.users import domain as users
from events import head, store
from events.types import new_id
from metrics.counters import applying, read
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


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "America/New_York", "Europe/Paris"])
def test_figures_do_not_depend_on_the_time_zone_of_the_session(zone: str) -> None:
    owner = factories.user()
    form = factories.form(owner)
    midnight = counting.now().replace(hour=0, minute=0, second=0, microsecond=0)
    for hours in range(-30, 0, 3):  # both sides of midnight in every zone
        counting.receive(form, midnight + timedelta(hours=hours), seconds=1.0)
    counting.follow()
    today = counting.now().date()

    def figures() -> list[object]:
        days = read.days(today - timedelta(days=3), today)
        return [days, read.form_days(form), read.user_days(owner), read.form_recent(form), read.users([owner])]

    expected = figures()
    store.execute(f"set time zone '{zone}'")
    try:
        assert figures() == expected
        counting.receive(form, midnight - timedelta(minutes=30))
        counting.follow()
        applying.sweep(counting.now() + timedelta(hours=1))
        counting.demand_identity()
    finally:
        store.execute("reset time zone")


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


MANY = """
insert into metrics_form_stats (form_id, user_id) select md5(f::text)::uuid, %(user)s from generate_series(1, 1000) f
"""

HOURS = """
insert into metrics_form_hours (form_id, hour, n)
select md5(f::text)::uuid, date_trunc('hour', now(), 'UTC') - h * interval '1 hour', 1
  from generate_series(1, 1000) f, generate_series(0, 99) h
"""


def test_days_of_a_user_with_many_forms_are_added_up_in_memory() -> None:
    owner = new_id()
    store.execute(MANY, {"user": owner})
    store.execute(HOURS)
    store.execute("analyze metrics_form_stats, metrics_form_hours")
    plan = "\n".join(row[0] for row in store.query(f"explain (analyze, timing off) {read.USER_DAYS}", (owner,)))
    assert "Disk" not in plan
    assert "external" not in plan
    assert sum(count for _, count in read.user_days(owner)) == 100_000


def test_as_of_names_the_position_and_what_is_not_counted() -> None:
    form = factories.form()
    counting.follow()
    counting.park(counting.receive(form))
    found = read.as_of()
    assert (found.position, found.not_counted) == (head.safe(), 1)
    assert found.at is not None
