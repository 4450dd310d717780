"""Operator page for the log head: sessions that hold it back, partitions, seals and the last check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from backoffice import error_messages
from backoffice.web import actors
from events import errors, head, jobs, partitions
from events.head import Holder
from metrics.monitoring import operator_action, overview
from metrics.monitoring.operator_action import OperatorPages, Route

WIDTH: Final = 100.0  # of the bar, in percent


@dataclass(frozen=True, slots=True)
class HolderRow:
    """A session that holds the head, for display: its activity and the remedy, without database terms."""

    holder: Holder
    activity: str
    remedy: str


@dataclass(frozen=True, slots=True)
class LogBar:
    """The end of the log as a bar, in percent of its width; the part after `head` is unreadable."""

    head: float
    held: float
    marks: Sequence[float]


class LogHeadPages(OperatorPages):
    def routes(self) -> Sequence[Route]:
        return Route("head/", "head", self.index), Route("head/verify/", "verify", self.verify)

    @operator_action.page
    def index(self, request: HttpRequest) -> HttpResponse:
        safe, last, holders = head.safe(), head.last(), head.holders()
        result, requested = jobs.last_verification()
        context = {
            "title": _("Log head"),
            "head": safe,
            "last": last,
            "held": last - safe if holders else 0,  # without a holder the positions were rolled back
            "holders": [holder_row(holder) for holder in holders],
            "bar": log_bar(safe, last if holders else safe, holders),
            "layout": partitions.capacity(),
            "epoch": head.epoch(),
            "sealed": overview.sealed(safe),
            "verified": result,
            "verified_by": actors.author(result) if result else None,
            "asked": requested,
            "failed": jobs.failed_verification(),
            "checking": requested is not None and jobs.is_verifying(),
            "asked_by": actors.author(requested) if requested else None,
        }
        return self.render(request, "head", context)

    @operator_action.action("verify")
    def verify(self, request: HttpRequest) -> HttpResponse:
        """Request a check of the whole log by a worker."""
        try:
            jobs.request_verification()
        except errors.EventsError as error:
            messages.error(request, error_messages.in_one_line(error))
        else:
            messages.success(request, _("A worker will check the log; the result will appear here."))
        return HttpResponseRedirect(reverse("admin:system_head"))


# -- display --------------------------------------------------------------------------------------------------------


def holder_row(holder: Holder) -> HolderRow:
    """Describes the activity of this session and how to release the head."""
    if holder.gid is not None or holder.pid is None:
        activity = _("A prepared transaction: no program is connected to it; it waits to be committed or rolled back.")
        remedy = _("Find out who prepared it, then run: ROLLBACK PREPARED '%(gid)s'") % {"gid": holder.gid or "…"}
        return HolderRow(holder, activity, remedy)
    end = _("End it: SELECT pg_terminate_backend(%(pid)d)") % {"pid": holder.pid}
    if holder.waits_for:
        listed = ", ".join(map(str, holder.waits_for))
        activity = ngettext(
            "Waits for session %(list)s, which has locked what it needs.",
            "Waits for the sessions %(list)s, which have locked what it needs.",
            len(holder.waits_for),
        )
        return HolderRow(holder, activity % {"list": listed}, _("First look at the session that it waits for."))
    if holder.state is None:
        activity = _("This login may not see the activity of other sessions.")
        return HolderRow(holder, activity, _("Grant pg_read_all_stats to the login of this application."))
    if holder.state.startswith("idle"):
        activity = _("Idle in a transaction that has stored events: its program is busy with something else, or hangs.")
        return HolderRow(holder, activity, _("Sessions of this application are ended after 60 seconds.") + " " + end)
    return HolderRow(
        holder, _("Storing events at this moment."), _("This usually takes less than a second.") + " " + end
    )


def log_bar(safe: int, last: int, holders: Sequence[Holder]) -> LogBar:
    """Computes the bar; the unreadable part takes at most three quarters, so that both parts are visible."""
    held = last - safe
    span = max(round(held / 0.75), 100)
    start = last - span

    def place(position: int) -> float:
        return round(max(0.0, min(1.0, (position - start) / span)) * WIDTH, 2)

    marks = sorted({place(holder.floor) for holder in holders if holder.floor < last})
    return LogBar(place(safe), round(WIDTH - place(safe), 2), marks)
