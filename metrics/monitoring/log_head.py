"""The log: how far it can be read and who holds it back, how large it is, how far it is sealed and checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from django.contrib import messages
from django.contrib.admin import AdminSite
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from backoffice import error_messages
from backoffice.web import actors
from events import errors, head, jobs, partitions
from events.head import Holder
from metrics.monitoring import operator_action, overview

WIDTH: Final = 100.0


@dataclass(frozen=True, slots=True)
class Sentence:
    """What a session that holds the head does, in words for who is no database administrator, and what helps."""

    holder: Holder
    does: str
    helps: str


@dataclass(frozen=True, slots=True)
class Picture:
    """The end of the log as a bar, in hundredths of its width: readable up to `head`, held from there on."""

    head: float
    held: float
    marks: Sequence[float]


@operator_action.page
def index(site: AdminSite, request: HttpRequest) -> HttpResponse:
    safe, last, holders = head.safe(), head.last(), head.blame()
    result, asked = jobs.last_verification()
    return operator_action.drawn(
        site,
        request,
        "head",
        {
            "title": _("Log head"),
            "head": safe,
            "last": last,
            "held": last - safe if holders else 0,  # without a holder they were rolled back
            "holders": [sentence(holder) for holder in holders],
            "picture": picture(safe, last if holders else safe, holders),
            "layout": partitions.layout(),
            "epoch": head.epoch(),
            "sealed": overview.sealed(safe),
            "verified": result,
            "verified_by": actors.author(result) if result else None,
            "asked": asked,
            "asked_by": actors.author(asked) if asked else None,
        },
    )


@operator_action.deed("verify")
def verify(request: HttpRequest) -> HttpResponse:
    """Have the whole log read again and checked."""
    try:
        jobs.request_verification()
    except errors.EventsError as error:
        messages.error(request, error_messages.in_one_line(error))
    else:
        messages.success(request, _("The log will be checked; the result appears here."))
    return HttpResponseRedirect(reverse("admin:system_head"))


# -- what is shown --------------------------------------------------------------------------------------------------


def sentence(holder: Holder) -> Sentence:
    if holder.gid is not None or holder.pid is None:
        does = _("A prepared transaction: no program is connected to it, it waits to be committed or rolled back.")
        helps = _("Find out who prepared it, then run: ROLLBACK PREPARED '%(gid)s'") % {"gid": holder.gid or "…"}
        return Sentence(holder, does, helps)
    end = _("End it: SELECT pg_terminate_backend(%(pid)d)") % {"pid": holder.pid}
    if holder.waits_for:
        listed = ", ".join(map(str, holder.waits_for))
        does = ngettext(
            "Waits for session %(list)s, which has locked what it needs.",
            "Waits for the sessions %(list)s, which have locked what it needs.",
            len(holder.waits_for),
        )
        return Sentence(holder, does % {"list": listed}, _("Check the session it waits for first."))
    if holder.state is None:
        does = _("This database login may not see what the session does.")
        return Sentence(holder, does, _("Grant it pg_read_all_stats."))
    if holder.state.startswith("idle"):
        does = _("Idle in a transaction that stored events: its program is busy with something else or hangs.")
        return Sentence(holder, does, _("Sessions of this application are ended after 60 seconds.") + " " + end)
    return Sentence(holder, _("Storing events at the moment."), _("This usually takes a moment.") + " " + end)


def picture(safe: int, last: int, holders: Sequence[Holder]) -> Picture:
    """The held part takes at most three quarters, so that there is always something before it."""
    held = last - safe
    span = max(round(held / 0.75), 100)
    start = last - span

    def place(position: int) -> float:
        return round(max(0.0, min(1.0, (position - start) / span)) * WIDTH, 2)

    marks = sorted({place(holder.floor) for holder in holders if holder.floor < last})
    return Picture(place(safe), round(WIDTH - place(safe), 2), marks)
