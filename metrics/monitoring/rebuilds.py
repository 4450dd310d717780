"""Operator page for the rebuilds of read tables: their progress; start, stop, continue and take over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext_lazy

from backoffice import error_messages
from backoffice.web import actors
from events import errors, jobs
from metrics.monitoring import operator_action, overview
from metrics.monitoring.operator_action import OperatorPages, Route
from metrics.monitoring.overview import ReadTable

PHASES: Final[Mapping[str, Promise]] = {
    "new": gettext_lazy("Starting"),
    "building": gettext_lazy("Reading the log"),
    "indexing": gettext_lazy("Creating indexes"),
    "catching up": gettext_lazy("Catching up"),
    "swapped": gettext_lazy("Cleaning up"),
    "done": pgettext_lazy("rebuild of a table", "Done"),
    "none": gettext_lazy("Never rebuilt"),
}


@dataclass(frozen=True, slots=True)
class TableRow:
    """A read table for display."""

    table: ReadTable
    who: actors.Actor | None

    @property
    def phase(self) -> Promise | str:
        return PHASES.get(self.table.progress.phase, self.table.progress.phase)

    @property
    def done(self) -> int:
        """The percentage of the log that has been read."""
        now = self.table.progress
        return round(min(1.0, now.position / now.target) * 100) if now.target else 0

    @property
    def resumes(self) -> bool:
        """True when a worker continues it by itself."""
        request = self.table.request
        return self.table.state == "interrupted" and (
            request is not None and jobs.is_unfinished(self.table.progress, request.event)
        )

    @property
    def cancelled(self) -> bool:
        return self.table.progress.error == "cancelled"


class RebuildPages(OperatorPages):
    def routes(self) -> Sequence[Route]:
        return (
            Route("rebuilds/", "rebuilds", self.index),
            Route("rebuilds/<str:table>/start/", "rebuild", self.start),
            Route("rebuilds/<str:table>/cancel/", "cancel", self.cancel),
        )

    @operator_action.page
    def index(self, request: HttpRequest) -> HttpResponse:
        tables = [_row(table) for table in overview.read_tables()]
        return self.render(request, "rebuilds", {"title": _("Rebuilds"), "tables": tables})

    @operator_action.action("rebuild")
    def start(self, request: HttpRequest, table: str) -> HttpResponse:
        """Request a rebuild by a worker: ``fresh`` from the beginning, ``take_over`` from a builder that hangs."""
        how = request.POST.get("how", "")
        start = partial(jobs.request_rebuild, fresh=how == "fresh", take_over=how == "take_over")
        return _attempt(request, table, start, _("A worker will rebuild %(table)s."))

    @operator_action.action("rebuild")
    def cancel(self, request: HttpRequest, table: str) -> HttpResponse:
        """Stop a rebuild; the part that is built is kept."""
        return _attempt(request, table, jobs.cancel_rebuild, _("The rebuild of %(table)s was stopped."))


def _row(table: ReadTable) -> TableRow:
    return TableRow(table, actors.author(table.request.event) if table.request else None)


def _attempt(request: HttpRequest, table: str, act: Callable[[str], object], success: str) -> HttpResponse:
    """Call `act` with the table and show the result as a message; 404 for an unknown table."""
    try:
        overview.known(table)
        act(table)
    except overview.UnknownTable:
        raise Http404 from None
    except errors.EventsError as error:
        messages.error(request, error_messages.in_one_line(error))
    else:
        messages.success(request, success % {"table": table})
    return HttpResponseRedirect(reverse("admin:system_rebuilds"))
