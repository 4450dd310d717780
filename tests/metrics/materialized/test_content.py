"""The rows of the views, compared with figures that Python computes from the same rows."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from events import store
from metrics.materialized import read, refresh, views
from tests.metrics.materialized import scenes

pytestmark = pytest.mark.django_db(transaction=True)

ZONES = ("UTC", "Europe/Paris", "America/New_York", "Pacific/Kiritimati", "Pacific/Marquesas")


def refreshed() -> None:
    for view in views.VIEWS:
        assert refresh.refresh(view, force=True).status == "refreshed"


# -- by day -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", ZONES)
def test_daily_figures_equal_those_computed_by_utc_day(zone: str) -> None:
    """The instants are around midnight in several zones and near clock changes; the session has any time zone."""
    rng = random.Random(zone)
    people = {scenes.user(plan): plan for plan in ("free", "premium", "enterprise") for _ in range(3)}
    created: list[tuple[datetime, object]] = []
    received: list[tuple[datetime, float | None]] = []
    forms = []
    for _ in range(120):
        instant, owner = _instant(rng), rng.choice(list(people))
        created.append((instant, owner))
        forms.append(scenes.form(owner, instant, deleted_at=scenes.now() if rng.random() < 0.2 else None))
    for _ in range(400):
        instant, seconds = _instant(rng), rng.choice([None, 0.0, 0.1, 12.345678901234567, 1e9, rng.random() * 600])
        gone = rng.random() < 0.2
        scenes.submission(rng.choice(forms), instant, seconds, deleted_at=scenes.now() if gone else None)
        if not gone:
            received.append((instant, seconds))
    store.execute("select set_config('timezone', %s, false)", (zone,))
    try:
        refreshed()
        found = {row.day: row for row in read.daily().items}
    finally:
        store.execute("reset timezone")
    assert list(found) == [scenes.today() - timedelta(days=n) for n in reversed(range(90))]
    _assert_forms(found, created, people)
    _assert_submissions(found, received)


def _instant(rng: random.Random) -> datetime:
    day = scenes.today() - timedelta(days=rng.randint(-2, 93))
    zone = ZoneInfo(rng.choice(ZONES))
    edge = datetime(day.year, day.month, day.day, rng.choice([0, 2, 23]), tzinfo=zone).astimezone(UTC)
    return edge + timedelta(microseconds=rng.choice([-1, 0, 1, 1_800_000_000]))


def _assert_forms(
    found: dict[date, read.Day], created: list[tuple[datetime, object]], people: dict[object, str]
) -> None:
    total, premium, owners = Counter(), Counter(), defaultdict(set)
    for instant, owner in created:
        total[instant.date()] += 1
        premium[instant.date()] += people[owner] == "premium"
        owners[instant.date()].add(owner)
    for day, row in found.items():
        wanted = (total[day], len(owners[day]), premium[day])
        assert (row.total_forms, row.unique_users, row.premium_forms) == wanted, day
    assert sum(total.values()) > sum(row.total_forms for row in found.values()) > 0, "some are outside of the 90 days"


def _assert_submissions(found: dict[date, read.Day], received: list[tuple[datetime, float | None]]) -> None:
    times = defaultdict(list)
    for instant, seconds in received:
        times[instant.date()].append(seconds)
    for day, row in found.items():
        timed = [Decimal(repr(one)) for one in times[day] if one is not None]
        assert (row.submissions, row.timed, row.seconds) == (len(times[day]), len(timed), sum(timed)), day
        assert (row.avg_completion_time is None) == (not timed)


def test_premium_forms_follow_the_plan_that_the_owner_has_now() -> None:
    owner = scenes.user("free")
    scenes.form(owner, scenes.noon(3))
    refreshed()
    assert sum(day.premium_forms for day in read.daily().items) == 0
    store.execute("update users set plan = 'premium' where id = %s", (owner,))
    refreshed()
    assert [day.premium_forms for day in read.daily().items if day.total_forms] == [1]


# -- by plan and month ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", ZONES)
def test_analytics_group_living_users_by_plan_and_utc_month(zone: str) -> None:
    rng = random.Random(zone)
    wanted: dict[tuple[str, date], list[int]] = {}
    for _ in range(200):
        created = datetime(2024, rng.randint(1, 12), 1, tzinfo=UTC) + timedelta(seconds=rng.choice([-1, 0, 1]))
        login = scenes.today() - timedelta(days=rng.choice([0, 29, 30, 31, 300]))
        last_login = rng.choice([None, datetime(login.year, login.month, login.day, tzinfo=UTC)])
        plan, forms, answers = rng.choice(["free", "premium"]), rng.choice([0, 2]), rng.choice([0, 5])
        key = scenes.user(plan, created, last_login=last_login)
        if rng.random() < 0.1:
            store.execute("update users set deleted_at = now() where id = %s", (key,))
            continue
        if forms or answers:  # a user without any has no row
            store.execute(
                "insert into metrics_user_stats (user_id, form_count, submission_count) values (%s, %s, %s)",
                (key, forms, answers),
            )
        active = last_login is not None and (scenes.today() - login).days <= 30
        figures = [1, active, forms > 0, answers > 0, forms, answers]
        segment = wanted.setdefault((plan, created.date().replace(day=1)), [0] * 6)
        segment[:] = [a + b for a, b in zip(segment, figures, strict=True)]
    store.execute("select set_config('timezone', %s, false)", (zone,))
    try:
        refreshed()
    finally:
        store.execute("reset timezone")
    found = {
        (row.plan, row.signup_month): [
            row.users,
            row.active_30d,
            row.with_forms,
            row.with_submissions,
            row.forms,
            row.submissions,
        ]
        for row in read.analytics().items
    }
    assert found == wanted
    assert list(found) == sorted(found, key=lambda key: (key[1], key[0]))


def test_analytics_without_users_have_a_position_and_no_rows() -> None:
    refreshed()
    found = read.analytics()
    assert found.items == []
    assert found.as_of.number == 1
