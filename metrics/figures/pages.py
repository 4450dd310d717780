"""The page *Figures*, its downloads, and the part of a record's page that shows figures.

With ``?fragment=1`` the page is only the part that changes, for open pages; ``?position=`` is the position that they
were notified of, which the answer includes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Final
from uuid import UUID

from django.contrib import messages
from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from backoffice import access, error_messages, standby, streaming
from events import errors
from events.db import replica, timeouts
from metrics import catalogue, queries, ranges
from metrics.charts.model import Chart
from metrics.figures import charted, downloads, numbers, panels
from metrics.figures.numbers import AsOf, Number
from metrics.materialized.read import NotComputed
from metrics.queries import Answer

STATEMENT_SECONDS: Final = 5.0
DEFAULT_RANGE: Final = "30d"
PRESETS: Final = (
    ("7d", gettext_lazy("7 days")),
    ("30d", gettext_lazy("30 days")),
    ("90d", gettext_lazy("90 days")),
    ("1y", gettext_lazy("1 year")),
)
VIEW_NOTE: Final = gettext_lazy("Refreshed every five minutes. Without deleted users.")
DAY_NOTE: Final = gettext_lazy("UTC days. Submissions of deleted forms stay in these figures.")


@dataclass(frozen=True, kw_only=True)
class Card:
    """A chart with its numbers. Without a chart, `note` says why."""

    name: str
    title: str
    chart: Chart | None = None
    as_of: AsOf | None = None
    numbers: Sequence[Number] = field(default_factory=tuple)
    note: Any = ""


View = Callable[..., HttpResponseBase]


def _guarded(view: View) -> View:
    """Decorates a view: limits its statements, and answers 503 instead of waiting for a busy database.

    It is read from a standby that has what the browser has seen, and what the page was notified of.
    """

    @wraps(view)
    def guarded(self: FigurePages, request: HttpRequest, *args: Any, **named: Any) -> HttpResponseBase:
        def shown() -> HttpResponseBase:
            with timeouts.at_most(STATEMENT_SECONDS):
                return view(self, request, *args, **named)

        seen = standby.position_of(request)
        try:
            return replica.run(None if seen is None else max(seen, numbers.wanted_position(request)), shown)
        except errors.TookTooLong:
            context = self.site.each_context(request) | {"title": _("The database is busy")}
            return TemplateResponse(request, "admin/backoffice/system/timeout_notice.html", context, status=503)

    return guarded


def _require(request: HttpRequest) -> None:
    """Raises `PermissionDenied` unless this person may view forms, as for `metrics/forms/`."""
    if not access.may(request.user, "view", "form"):
        raise PermissionDenied


class FigurePages:
    def __init__(self, site: AdminSite) -> None:
        self.site = site

    def urls(self) -> list[URLPattern]:
        wrap: Callable[[View], Any] = self.site.admin_view
        return [
            path("figures/", wrap(self.index), name="figures"),
            path("figures/<slug:name>.csv", wrap(self.download), name="figures_csv"),
            path("figures/<slug:category>/<uuid:key>/", wrap(self.record), name="figures_record"),
        ]

    @_guarded
    def index(self, request: HttpRequest) -> HttpResponseBase:
        _require(request)
        try:
            days = _days(request)
        except ranges.InvalidRange as error:
            messages.warning(request, error_messages.in_one_line(error))
            return HttpResponseRedirect(request.path)
        minimum = numbers.wanted_position(request)
        totals = _totals(request.user, minimum)
        context = {
            "title": _("Figures"),
            "totals": totals,
            "cards": cards(days, request.user, minimum),
            "not_counted": queries.ask(catalogue.Uncounted(), request.user).value,
            "days": days,
            "presets": _presets(request),
            "position": min((one.as_of.position for one in totals), default=0),
            "query": _range_query(request),
        }
        if request.GET.get("fragment"):
            response = TemplateResponse(request, "admin/backoffice/figures/page_part.html", context)
            response["Cache-Control"] = "no-store"
            return response
        whole = {**self.site.each_context(request), **context}
        return TemplateResponse(request, "admin/backoffice/figures/page.html", whole)

    @_guarded
    def record(self, request: HttpRequest, category: str, key: UUID) -> HttpResponseBase:
        """The changing part of the panel on the page of a user or form."""
        panel = panels.of_record(category, key, request.user, numbers.wanted_position(request))
        response = TemplateResponse(request, "admin/backoffice/figures/panel_part.html", {"panel": panel})
        response["Cache-Control"] = "no-store"
        return response

    @_guarded
    def download(self, request: HttpRequest, name: str) -> HttpResponseBase:
        """A chart of the page as CSV, for the same range."""
        _require(request)
        try:
            days = _days(request)
        except ranges.InvalidRange as error:
            return HttpResponse(error_messages.in_one_line(error), status=error.status, content_type="text/plain")
        chart = next((card.chart for card in cards(days, request.user) if card.name == name), None)
        if chart is None:
            raise Http404
        file = f"{name}-{days.first}-{days.last}.csv"
        return streaming.download(request, downloads.csv_of(chart), file, content_type="text/csv; charset=utf-8")


def _days(request: HttpRequest) -> ranges.Days:
    given = {name: request.GET[name] for name in ranges.PARAMETERS if request.GET.get(name)}
    return ranges.days(given or {"range": DEFAULT_RANGE})


def _range_query(request: HttpRequest) -> str:
    query = request.GET.copy()
    for name in set(query) - set(ranges.PARAMETERS):
        query.pop(name)
    return query.urlencode()


def _presets(request: HttpRequest) -> list[tuple[str, Any, bool]]:
    """(range, label, whether it is shown) of the ranges to choose from."""
    own = "from" in request.GET or "to" in request.GET
    shown = "" if own else request.GET.get("range") or DEFAULT_RANGE
    return [(name, label, name == shown) for name, label in PRESETS]


# -- content ----------------------------------------------------------------------------------------------------------


def _totals(staff: Any, min_position: int) -> list[Number]:
    action, category = catalogue.Totals.right
    if not access.may(staff, action, category):
        return []
    answer = queries.ask(catalogue.Totals(), staff, min_position=min_position)
    as_of, found = AsOf.of(answer), answer.value
    return [
        Number(name="users", label=_("Users"), value=found.user_count, as_of=as_of),
        Number(name="forms", label=_("Forms"), value=found.form_count, as_of=as_of),
        Number(
            name="submissions",
            label=_("Submissions"),
            value=found.submission_count,
            as_of=as_of,
            note=panels.LIVING_NOTE,
        ),
    ]


def cards(days: ranges.Days, staff: Any, min_position: int = 0) -> list[Card]:
    """The charts that this person may see."""
    found = _daily_cards(
        catalogue.form_days(days, staff, min_position=min_position), timing=catalogue.sees_timing(staff)
    )
    return [*found, *_user_cards(days, staff)] if access.sees("user", staff) else found


def _daily_cards(answer: Answer[list[catalogue.FormDay]], *, timing: bool) -> list[Card]:
    as_of, days = AsOf.of(answer), answer.value
    timed = [(day.timed, day.avg_completion_time) for day in days if day.avg_completion_time is not None]
    count = sum(number for number, _average in timed)
    average = sum(number * value for number, value in timed) / count if count else None

    def number(name: str, label: str, value: Any) -> Number:
        return Number(name=name, label=label, value=value, as_of=as_of)

    forms, submissions, time = charted.forms(days), charted.submissions(days), charted.completion_time(days)
    return [
        Card(
            name=submissions.id,
            title=submissions.title,
            chart=submissions,
            as_of=as_of,
            numbers=[number("in-range", _("In this period"), sum(day.submissions for day in days))],
            note=DAY_NOTE,
        ),
        Card(
            name=forms.id,
            title=forms.title,
            chart=forms,
            as_of=as_of,
            numbers=[number("in-range", _("In this period"), sum(day.forms_created for day in days))],
            note=_("UTC days. Forms count on the day of their creation, also when they are deleted later."),
        ),
        Card(
            name=time.id,
            title=time.title,
            chart=time,
            as_of=as_of,
            numbers=[number("average", _("Average of this period"), time.text(average))],
            note="" if timing else _("Today and days with fewer than five timed submissions are left out."),
        ),
    ]


def _user_cards(days: ranges.Days, staff: Any) -> list[Card]:
    plans = queries.ask(catalogue.UsersByPlan(), staff)
    try:
        found = catalogue.user_analytics(staff)
    except NotComputed:
        note = _("These figures are not computed yet. Reload the page in five minutes.")
        return [Card(name="users", title=_("Users by month of sign-up and plan"), note=note)]
    as_of = AsOf(found.position, found.at)
    users, active = sum(one.users for one in found.items), sum(one.active_30d for one in found.items)
    sign_ups = charted.sign_ups(found.items, days.first, days.last)
    shares = charted.active_share(found.items, days.first, days.last)
    share = shares.text(active / users if users else None)
    return [
        Card(
            name=sign_ups.id,
            title=sign_ups.title,
            chart=sign_ups,
            as_of=as_of,
            numbers=[
                Number(name=one.name, label=one.label, value=getattr(plans.value, one.name), as_of=AsOf.of(plans))
                for one in sign_ups.series
            ],
            note=VIEW_NOTE,
        ),
        Card(
            name=shares.id,
            title=shares.title,
            chart=shares,
            as_of=as_of,
            numbers=[Number(name="share", label=_("Of all users"), value=share, as_of=as_of)],
            note=VIEW_NOTE,
        ),
    ]
