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
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from backoffice import phrases
from backoffice.admin import people, watch
from events import errors, rebuild, requests, store
from events.rebuild import Progress

SILENT_SECONDS: Final = 60.0  # without a sign of a builder, from which it may hang

PHASES: Final[Mapping[str, Promise]] = {
    "new": gettext_lazy("Beginning"),
    "building": gettext_lazy("Reading the log"),
    "indexing": gettext_lazy("Making indexes"),
    "catching up": gettext_lazy("Catching up"),
    "swapped": gettext_lazy("Tidying up"),
    "done": gettext_lazy("Done"),
    "none": gettext_lazy("Never rebuilt"),
}

# What the planner thinks there is, and what there is on disk with indexes.
SIZES = """
select name, greatest(c.reltuples, 0)::bigint, pg_total_relation_size(c.oid)
  from unnest(%s::text[]) as wanted(name) join pg_class c on c.oid = to_regclass(quote_ident(wanted.name))
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A read table. `state`: idle (never, or done), waits (a wish no worker has begun), running, silent (its builder
    gave no sign for a minute) or interrupted."""

    progress: Progress
    state: str
    rows: int
    bytes: int
    wish: requests.Wish | None
    who: people.Actor | None

    @property
    def name(self) -> str:
        return self.progress.name

    @property
    def phase(self) -> Promise | str:
        return PHASES.get(self.progress.phase, self.progress.phase)

    @property
    def done(self) -> int:
        """Hundredths of the way through the log."""
        return round(min(1.0, self.progress.position / self.progress.target) * 100) if self.progress.target else 0

    @property
    def cancelled(self) -> bool:
        return self.progress.error == "cancelled"


@watch.page
def index(site: AdminSite, request: HttpRequest) -> HttpResponse:
    found = tables()
    busy = any(table.state in {"running", "silent", "waits"} for table in found)
    return watch.drawn(site, request, "rebuilds", {"title": _("Rebuilds"), "tables": found, "busy": busy})


def tables() -> list[Table]:
    """Every read table that can be rebuilt, by name."""
    now = rebuild.progress()
    sizes = {row[0]: row[1:] for row in store.query(SIZES, ([one.name for one in now],))}
    return [_table(one, *sizes.get(one.name, (0, 0))) for one in now]


def _table(progress: Progress, rows: int, size: int) -> Table:
    wish = requests.last_rebuild(progress.name)
    who = people.author(wish.event) if wish else None
    return Table(progress=progress, state=_state(progress, wish), rows=rows, bytes=size, wish=wish, who=who)


def _state(progress: Progress, wish: requests.Wish | None) -> str:
    if progress.running:
        quiet = (timezone.now() - progress.updated_at).total_seconds() if progress.updated_at else 0.0
        return "silent" if quiet > SILENT_SECONDS else "running"
    if wish is not None and wish.waits:
        return "waits"
    return "idle" if progress.phase in {"none", "done"} else "interrupted"


@watch.deed("rebuild")
def start(request: HttpRequest, table: str) -> HttpResponse:
    """Have a worker rebuild a table: ``fresh`` anew, ``take_over`` from a builder that hangs."""
    how = request.POST.get("how", "")
    said = _("A worker will rebuild %(table)s.")
    ask = partial(requests.request_rebuild, fresh=how == "fresh", take_over=how == "take_over")
    return _tried(request, table, ask, said)


@watch.deed("rebuild")
def cancel(request: HttpRequest, table: str) -> HttpResponse:
    """Stop a rebuild; what is built so far is kept."""
    return _tried(request, table, requests.cancel_rebuild, _("The rebuild of %(table)s was stopped."))


def _tried(request: HttpRequest, table: str, act: Callable[[str], object], said: str) -> HttpResponse:
    if all(table != one.name for one in rebuild.tables()):
        raise Http404
    try:
        act(table)
    except errors.EventsError as error:
        messages.error(request, phrases.in_one_line(error))
    else:
        messages.success(request, said % {"table": table})
    return HttpResponseRedirect(reverse("admin:system_rebuilds"))
