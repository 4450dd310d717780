"""The charts of figures, from the answers of queries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import date, timedelta
from itertools import groupby
from typing import Any, Final

from django.utils.translation import gettext as _

from backoffice.models import User
from metrics.catalogue import FormDay, Segment
from metrics.charts.model import Chart, Kind, Series
from metrics.charts.scales import Unit
from metrics.figures.records import DayCount

MONTHS: Final = 12  # of sign-up that are shown at least


def record_days(days: Sequence[DayCount]) -> Chart:
    """Submissions to one record by day."""
    return Chart(
        id="record-days",
        title=_("Submissions per day, the last 90 days"),
        kind="bar",
        moments=[one.date for one in days],
        series=[Series(_("Submissions"), "submissions", [one.submissions for one in days])],
    )


def forms(days: Sequence[FormDay]) -> Chart:
    return _daily(
        "forms",
        _("Forms created per day"),
        "line",
        days,
        (_("Forms"), "forms_created", lambda day: day.forms_created),
        (_("Their owners"), "unique_users", lambda day: day.unique_users),
    )


def submissions(days: Sequence[FormDay]) -> Chart:
    column = (_("Submissions"), "submissions", lambda day: day.submissions)
    return _daily("submissions", _("Submissions per day"), "bar", days, column)


def completion_time(days: Sequence[FormDay]) -> Chart:
    column = (_("Average completion time"), "avg_completion_time", lambda day: day.avg_completion_time)
    return _daily(
        "completion-time", _("Average completion time per day"), "line", days, column, unit="seconds", sums=False
    )


def sign_ups(segments: Iterable[Segment], first: date, last: date) -> Chart:
    """Users by plan and month of sign-up; a deleted user is in no month."""
    months = _months(first, last)
    found = {(one.signup_month, str(one.plan)): one.users for one in segments}
    return Chart(
        id="users",
        title=_("Users by month of sign-up and plan"),
        kind="bar",
        moments=months,
        step="month",
        series=[
            Series(
                str(plan.label), str(plan.value), [found.get((month, str(plan.value)), 0) for month in months], number
            )
            for number, plan in enumerate(User.Plan)
        ],
    )


def active_share(segments: Iterable[Segment], first: date, last: date) -> Chart:
    """The share of the users of each month of sign-up who signed in during the last 30 days."""
    months = _months(first, last)
    shares = {}
    for month, group in groupby(sorted(segments, key=lambda one: one.signup_month), lambda one: one.signup_month):
        listed = list(group)
        if users := sum(one.users for one in listed):
            shares[month] = sum(one.active_30d for one in listed) / users
    return Chart(
        id="active",
        title=_("Share of users active in the last 30 days, by month of sign-up"),
        kind="line",
        moments=months,
        step="month",
        unit="share",
        sums=False,
        series=[Series(_("Active users"), "active_share", [shares.get(month) for month in months], 2)],
    )


Column = tuple[str, str, Callable[[FormDay], Any]]


def _daily(
    name: str,
    title: str,
    kind: Kind,
    days: Sequence[FormDay],
    *columns: Column,
    unit: Unit = "count",
    sums: bool = True,
) -> Chart:
    return Chart(
        id=name,
        title=title,
        kind=kind,
        moments=[day.date for day in days],
        unit=unit,
        sums=sums,
        series=[
            Series(label, field, [value(day) for day in days], number)
            for number, (label, field, value) in enumerate(columns)
        ],
    )


def _months(first: date, last: date) -> list[date]:
    """The first days of the months of a range: at least `MONTHS` months, up to its last one."""
    months = [last.replace(day=1)]
    while date.min < months[-1] and (len(months) < MONTHS or months[-1] > first.replace(day=1)):
        months.append((months[-1] - timedelta(days=1)).replace(day=1))
    return months[::-1]
