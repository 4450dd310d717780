"""Read tables and their rebuilding: what there is, a worker at work, what to do with one that was interrupted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from django.contrib import messages
from django.contrib.admin import AdminSite
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from backoffice import error_messages
from backoffice.web import actors
from events import errors, jobs
from metrics.monitoring import operator_action, overview
from metrics.monitoring.overview import ReadTable

PHASES: Final[Mapping[str, Promise]] = {
    "new": gettext_lazy("Starting"),
    "building": gettext_lazy("Reading the log"),
    "indexing": gettext_lazy("Creating indexes"),
    "catching up": gettext_lazy("Catching up"),
    "swapped": gettext_lazy("Cleaning up"),
    "done": gettext_lazy("Done"),
    "none": gettext_lazy("Never rebuilt"),
}


@dataclass(frozen=True, slots=True)
class Shown:
    """A read table in words."""

    table: ReadTable
    who: actors.Actor | None

    @property
    def phase(self) -> Promise | str:
        return PHASES.get(self.table.progress.phase, self.table.progress.phase)

    @property
    def done(self) -> int:
        """Hundredths of the way through the log."""
        now = self.table.progress
        return round(min(1.0, now.position / now.target) * 100) if now.target else 0

    @property
    def cancelled(self) -> bool:
        return self.table.progress.error == "cancelled"


@operator_action.page
def index(site: AdminSite, request: HttpRequest) -> HttpResponse:
    tables = [_shown(table) for table in overview.read_tables()]
    return operator_action.drawn(site, request, "rebuilds", {"title": _("Rebuilds"), "tables": tables})


def _shown(table: ReadTable) -> Shown:
    return Shown(table, actors.author(table.wish.event) if table.wish else None)


@operator_action.deed("rebuild")
def start(request: HttpRequest, table: str) -> HttpResponse:
    """Have a worker rebuild a table: ``fresh`` anew, ``take_over`` from a builder that hangs."""
    how = request.POST.get("how", "")
    said = _("A worker will rebuild %(table)s.")
    ask = partial(jobs.request_rebuild, fresh=how == "fresh", take_over=how == "take_over")
    return _tried(request, table, ask, said)


@operator_action.deed("rebuild")
def cancel(request: HttpRequest, table: str) -> HttpResponse:
    """Stop a rebuild; what is built so far is kept."""
    return _tried(request, table, jobs.cancel_rebuild, _("The rebuild of %(table)s was stopped."))


def _tried(request: HttpRequest, table: str, act: Callable[[str], object], said: str) -> HttpResponse:
    try:
        overview.known(table)
        act(table)
    except overview.UnknownTable:
        raise Http404 from None
    except errors.EventsError as error:
        messages.error(request, error_messages.in_one_line(error))
    else:
        messages.success(request, said % {"table": table})
    return HttpResponseRedirect(reverse("admin:system_rebuilds"))
